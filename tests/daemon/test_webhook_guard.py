"""Which URLs are taken and which addresses are connected to."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from daemon.webhook_guard import MAX_URL, Guard, Target, TargetRefusedError

STRICT = Guard()
OPEN = Guard(allow_networks=(ip_network("10.1.0.0/16"), ip_network("fd00:1::/32")), allow_http=True)


@pytest.mark.parametrize(
    ("url", "target", "authority"),
    [
        ("https://shop.example", Target(True, "shop.example", 443, "/"), "shop.example"),
        (
            "HTTPS://Shop.Example:8443/a?b=c",
            Target(True, "shop.example", 8443, "/a?b=c"),
            "shop.example:8443",
        ),
        ("https://1.1.1.1/x", Target(True, "1.1.1.1", 443, "/x"), "1.1.1.1"),
        (
            "https://[2606:4700::1111]:444/",
            Target(True, "2606:4700::1111", 444, "/"),
            "[2606:4700::1111]:444",
        ),
        ("https://shop.example?x", Target(True, "shop.example", 443, "/?x"), "shop.example"),
        ("https://shop.example:65535/", Target(True, "shop.example", 65535, "/"), None),
    ],
)
def test_a_url_in_its_parts(url, target, authority):
    assert STRICT.parse(url) == target
    assert authority is None or target.authority == authority


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("shop.example/hook", "https://"),
        ("ftp://shop.example/", "https://"),
        ("file:///etc/passwd", "https://"),
        ("gopher://shop.example/", "https://"),
        ("https://user:pass@shop.example/", "user or password"),
        ("https://@shop.example/", "user or password"),
        ("https://shop.example/#part", "#fragment"),
        ("https://shop.example/#", "#fragment"),
        ("https://shop.example:0/", "port"),
        ("https://shop.example:65536/", "valid port"),
        ("https://shop.example:x/", "valid port"),
        ("https://[::1/", "valid port"),
        ("https:///hook", "no host"),
        ("https://sh_op!.example/", "no host"),
        ("https://shop.example/a b", "blanks"),
        ("https://shop.example/\r\nX: y", "blanks"),
        ("https://sh\u00f6p.example/", "ASCII"),
        ("https://shop.example/" + "x" * MAX_URL, "longer"),
        ("http://shop.example/", "allow_http"),
        ("https://127.0.0.1/", "loopback"),
        ("https://[::1]/", "loopback"),
        ("https://169.254.169.254/latest/meta-data", "metadata"),
        ("", "blanks"),
    ],
)
def test_refused_urls(url, why):
    with pytest.raises(TargetRefusedError, match=why):
        STRICT.parse(url)


PRIVATE = (
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.9.9.9",
    "168.63.129.16", "169.254.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255",
    "192.0.0.192", "192.0.2.1", "192.168.1.1", "198.18.0.1", "198.19.255.255",
    "198.51.100.7", "203.0.113.9",
    "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "::1", "::7f00:1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1",
    "2002:7f00:1::", "2002:a00:1::1", "2001::1", "2001:db8::1", "100::1", "fc00::1",
    "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "5f00::1", "3fff::1",
)  # fmt: skip
PUBLIC = (
    "1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1",
    "192.167.0.1", "192.169.0.1", "169.253.0.1", "223.255.255.255", "2606:4700::1111",
    "2a00:1450::1",
    "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1",
)  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public_are_refused(address):
    for guard in (STRICT, OPEN):
        with pytest.raises(TargetRefusedError, match=r"webhooks\.allow_networks"):
            guard.check(ip_address(address), tls=True)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_connected_to(address):
    STRICT.check(ip_address(address), tls=True)
    OPEN.check(ip_address(address), tls=False)
    with pytest.raises(TargetRefusedError, match=r"webhooks\.allow_http"):
        STRICT.check(ip_address(address), tls=False)


@pytest.mark.parametrize(
    "address",
    ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd00:1::5"],
)
def test_allowed_networks_are_allowed_in_every_spelling(address):
    for tls in (True, False):
        OPEN.check(ip_address(address), tls=tls)


def test_an_allowed_network_makes_http_possible_there_and_only_there():
    guard = Guard(allow_networks=(ip_network("10.1.0.0/16"),))
    assert guard.parse("http://10.1.2.3:8080/hook").port == 8080
    assert guard.parse("http://inner.example/").tls is False, "its addresses will decide"
    with pytest.raises(TargetRefusedError, match="allow_http"):
        guard.parse("http://1.1.1.1/")
    with pytest.raises(TargetRefusedError, match="private"):
        guard.parse("http://10.2.0.1/")
