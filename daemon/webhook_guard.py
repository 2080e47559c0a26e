"""Where webhooks may go: which URLs are taken, and which addresses are connected to.

Whoever may add an endpoint could otherwise make the daemon ask services of its own network for
them (server-side request forgery). A name is looked up by us for each connection, every address
that it has is judged, and the connection goes to exactly an address that was judged: a name that
answers differently the next moment (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL = 2048

_NOT_PUBLIC: Sequence[tuple[Network, str]] = tuple(
    (ip_network(network), what)
    for network, what in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "a carrier's own (CGNAT)"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local, where clouds keep their metadata"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("168.63.129.16/32", "a cloud's metadata service"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "a relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "reserved"),
        ("64:ff9b:1::/48", "a local translator (NAT64)"),
        ("100::/64", "for discarding"),
        ("2001::/23", "a tunnel or a protocol's own"),
        ("2001:db8::/32", "for documentation"),
        ("3fff::/20", "for documentation"),
        ("5f00::/16", "for segment routing"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "private"),
        ("ff00::/8", "multicast"),
    )
)
"""The IANA registries of special-purpose addresses (RFC 6890), multicast, and one more."""
_NAT64 = IPv6Network("64:ff9b::/96")
_6TO4 = IPv6Network("2002::/16")
_HOST = re.compile(r"[0-9a-z]([0-9a-z._-]*[0-9a-z])?\.?", re.IGNORECASE)
_PORTS = {"https": 443, "http": 80}
_VISIBLE = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint's URL in its parts."""

    tls: bool
    host: str
    """A name or an address, without brackets."""
    port: int
    path: str
    """With the query; begins with a slash."""

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = self.port == _PORTS["https" if self.tls else "http"]
        return host if usual else f"{host}:{self.port}"


class TargetRefusedError(ValueError):
    """The URL or address is refused: the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Guard:
    """The rules, with the exceptions that the configuration makes."""

    allow_networks: tuple[Network, ...] = ()
    """Addresses that are connected to although they are not public, also without TLS."""
    allow_http: bool = False
    """Whether http:// may go to public addresses."""

    def parse(self, url: str) -> Target:
        """The target of a URL. Raises TargetRefusedError.

        What only an address can decide (`check`) is decided at once where the URL has one.
        """
        if len(url) > MAX_URL:
            raise TargetRefusedError(f"the URL is longer than {MAX_URL} characters")
        if not _VISIBLE.fullmatch(url):
            raise TargetRefusedError(
                "the URL has blanks, control characters or letters beyond ASCII: write them"
                " percent-encoded, and an international name in its xn-- form"
            )
        try:
            parts = urlsplit(url)
            port, host = parts.port, parts.hostname or ""
        except ValueError:
            raise TargetRefusedError("this is no URL with a valid port") from None
        if parts.scheme not in _PORTS:
            raise TargetRefusedError("write a whole URL that begins with https://")
        if "@" in parts.netloc:
            raise TargetRefusedError(
                "the URL holds a user or password: leave it out, and trust the signature instead"
            )
        if "#" in url:
            raise TargetRefusedError("the URL has a #fragment, which is never sent: leave it out")
        if port == 0:
            raise TargetRefusedError("the port must be from 1 to 65535")
        literal = _literal(host)
        if literal is None and not _HOST.fullmatch(host):
            raise TargetRefusedError("the URL names no host")
        tls = parts.scheme == "https"
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        target = Target(tls, host, port or _PORTS[parts.scheme], path)
        if literal is not None:
            self.check(literal, tls=tls)
        elif not tls and not self.allow_http and not self.allow_networks:
            raise TargetRefusedError(_PLAIN)
        return target

    def check(self, address: Address, *, tls: bool) -> None:
        """Raises TargetRefusedError unless it may be connected to."""
        inner = _inner(address)
        if any(one in network for one in (address, inner) for network in self.allow_networks):
            return
        for network, what in _NOT_PUBLIC:
            if inner in network:
                raise TargetRefusedError(
                    f"the address {address} is {what}: webhooks go to public addresses only, unless"
                    " webhooks.allow_networks names others"
                )
        if not tls and not self.allow_http:
            raise TargetRefusedError(_PLAIN)


_PLAIN = (
    "the URL begins with http://, so anybody on the way could read events: write https://, or set"
    " webhooks.allow_http"
)


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for; itself if it is none of those."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
        if address in _6TO4:
            return IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
    return address
