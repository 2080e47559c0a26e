"""Who asks: what proxies say is believed of those that are trusted, and of nobody else."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import Headers

from actors.gate import Gate, GateRules, host_of, network_of
from api.rest.app import create_app
from api.rest.edge import HttpLimits
from api.rest.proxies import Proxies
from tests.helpers.event_source import http
from tests.helpers.orders import make_wallet, place_order

LOCAL = (ip_network("127.0.0.0/8"), ip_network("::1"))
INNER = (*LOCAL, ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


def client(trusted, host="127.0.0.1", **headers):
    given = Headers()
    for name, value in headers.items():
        for one in [value] if isinstance(value, str) else value:
            given.add(name.replace("_", "-"), one)
    return Proxies(trusted).client(host, 4711, given)


@pytest.mark.parametrize(
    ("forwarded_for", "expected"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:61000", "203.0.113.7"),
        ("2001:db8::7", "[2001:db8::7]"),
        ("[2001:db8::7]", "[2001:db8::7]"),
        ("[2001:db8::7]:61000", "[2001:db8::7]"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        # What a client says of itself stands further left.
        ("198.51.100.1, 203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, 10.1.2.3", "203.0.113.7"),
        ("198.51.100.1, 203.0.113.7, 10.1.2.3, fd00::1", "203.0.113.7"),
        (["198.51.100.1, 203.0.113.7", "10.1.2.3"], "203.0.113.7"),
        # All of them are ours: who began is one of us.
        ("10.0.0.9, 10.1.2.3", "10.0.0.9"),
        # What nobody understands ends the way back.
        ("198.51.100.1, unknown, 10.1.2.3", "10.1.2.3"),
        ("unknown", "127.0.0.1"),
        ("", "127.0.0.1:4711"),
        ("203.0.113.7, ", "127.0.0.1"),
        ("256.1.1.1", "127.0.0.1"),
        ("[2001:db8::7]x", "127.0.0.1"),
        ("203.0.113.7:http", "127.0.0.1"),
        ("1.2.3.4.5, \x00", "127.0.0.1"),
    ],
)
def test_x_forwarded_for_is_read_from_the_right(forwarded_for, expected):
    found = client(INNER, x_forwarded_for=forwarded_for)
    assert found == expected or (expected == "127.0.0.1:4711" and host_of(found) == "127.0.0.1")


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ("for=203.0.113.7", "203.0.113.7"),
        ("For=203.0.113.7;proto=https;by=10.0.0.1", "203.0.113.7"),
        ('proto=https; for="203.0.113.7:61000"', "203.0.113.7"),
        ('for="[2001:db8::7]:61000"', "[2001:db8::7]"),
        ("for=198.51.100.1, for=203.0.113.7, for=10.0.0.2", "203.0.113.7"),
        (["for=198.51.100.1", "for=203.0.113.7"], "203.0.113.7"),
        # A quote that a client leaves open, or a host with quotes in it, moves nothing.
        ('for=", for="[2001:db8::7]"', "[2001:db8::7]"),
        ('host="x;for=198.51.100.1";for=203.0.113.7', "203.0.113.7"),
        ('for=203.0.113.7;host="x,for=198.51.100.1"', "127.0.0.1"),
        ("for=_hidden", "127.0.0.1"),
        ("for=unknown, for=10.0.0.2", "10.0.0.2"),
        ("proto=https", "127.0.0.1"),
    ],
)
def test_forwarded_is_read_where_the_other_is_not_there(forwarded, expected):
    assert client(INNER, forwarded=forwarded) == expected
    assert client(INNER, forwarded=forwarded, x_forwarded_for="192.0.2.9") == "192.0.2.9"


@pytest.mark.parametrize(
    ("trusted", "host", "expected"),
    [
        ((), "127.0.0.1", "127.0.0.1:4711"),
        (LOCAL, "203.0.113.50", "203.0.113.50:4711"),
        (LOCAL, "2001:db8::50", "[2001:db8::50]:4711"),
        (LOCAL, "", ":4711"),
        (LOCAL, "::1", "198.51.100.1"),
        (LOCAL, "::ffff:127.0.0.1", "198.51.100.1"),
    ],
)
def test_others_may_say_what_they_like(trusted, host, expected):
    said = {"x_forwarded_for": "198.51.100.1", "forwarded": "for=198.51.100.2"}
    assert client(trusted, host, **said) == expected


def test_a_proxy_that_says_nothing_is_the_client():
    assert host_of(client(LOCAL)) == "127.0.0.1"


def test_a_long_list_is_read_from_its_near_end():
    assert client(INNER, x_forwarded_for="198.51.100.1," + "10.0.0.1," * 5000 + "10.9.9.9") == (
        "10.0.0.1"
    )


@given(st.text(max_size=80), st.text(max_size=80))
def test_whatever_is_said_an_address_comes_of_it(one, other):
    headers = Headers()
    headers.setlist("X-Forwarded-For", [one.replace("\n", "").replace("\r", "")])
    headers.setlist("Forwarded", [other.replace("\n", "").replace("\r", "")])
    network_of(host_of(Proxies(INNER).client("127.0.0.1", 1, headers)))
    # And what a proxy adds cannot be talked away.
    headers.setlist("X-Forwarded-For", [headers["X-Forwarded-For"] + ", 203.0.113.7"])
    assert Proxies(LOCAL).client("127.0.0.1", 1, headers) == "203.0.113.7"
    del headers["X-Forwarded-For"]
    headers.setlist("Forwarded", [headers["Forwarded"] + ', for="203.0.113.7"'])
    assert Proxies(LOCAL).client("127.0.0.1", 1, headers) == "203.0.113.7"


# --- in the daemon --------------------------------------------------------------------------------


async def status_of(web, path, **headers):
    async with web.connection() as source:
        await source.ask(path, {name.replace("_", "-"): value for name, value in headers.items()})
        return source.status


def limited(house):
    """The house with a gate that takes a request at a time of each address."""
    rules = GateRules(anonymous=True, rate_per_s=0.001, burst=1)
    house.gate = Gate(house.store, rules, clock=house.clock, log=house.log)
    return house


class Behind:
    """The house's edge, with trusted proxies."""

    def __init__(self, house, trusted):
        self._house, self._trusted = house, trusted

    def edge(self, *, limits=None):
        return replace(self._house.edge(limits=limits), trusted_proxies=self._trusted)


async def test_limits_go_by_the_client_behind_a_trusted_proxy(house):
    async with http(Behind(limited(house), LOCAL)) as web:
        assert await status_of(web, "/pay/1", X_Forwarded_For="203.0.113.7") == 404
        assert await status_of(web, "/pay/1", X_Forwarded_For="203.0.113.7") == 429
        assert await status_of(web, "/pay/1", X_Forwarded_For="198.51.100.1, 203.0.113.7") == 429
        assert await status_of(web, "/pay/1", X_Forwarded_For="203.0.113.8") == 404
        assert await status_of(web, "/pay/1", Forwarded="for=203.0.113.9") == 404


async def test_without_trust_the_headers_are_no_way_around_the_limits(house):
    app = create_app(limited(house).edge())
    client = app.test_client()
    scope = {"client": ("203.0.113.7", 1)}
    seen = [
        (
            await client.get(
                "/pay/1", headers={"X-Forwarded-For": f"198.51.100.{n}"}, scope_base=scope
            )
        ).status_code
        for n in range(3)
    ]
    assert seen == [404, 429, 429]


@pytest.mark.parametrize("trusted", [(), LOCAL])
@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded"])
@pytest.mark.parametrize("said", ["127.0.0.1", "for=127.0.0.1", "203.0.113.7", ""])
async def test_who_came_through_a_proxy_is_never_taken_for_local(house, trusted, name, said):
    """Also where the proxy says that he is."""
    async with http(Behind(house, trusted)) as web:
        assert await status_of(web, "/v1/users") in (200, 405)
        assert await status_of(web, "/v1/events", **{name.replace("-", "_"): said}) == 401


async def test_a_stranger_s_address_is_in_the_log_as_the_proxy_has_it(house):
    key = {"Authorization": "Bearer tk_aaaaaaaa_" + "b" * 32}
    async with http(Behind(house, LOCAL)) as web:
        assert await status_of(web, "/v1/events", X_Forwarded_For="203.0.113.7", **key) == 401
    (line,) = house.log.of("a caller was not let in")
    assert line.fields["peer"] == "203.0.113.7"


async def test_places_for_open_pages_go_by_the_client(house):
    placed = await place_order(house, await make_wallet(house, await house.user()))
    path = f"/pay/{placed.order.id}/live"
    limits = HttpLimits(pages_per_address=1)
    async with http(Behind(house, LOCAL), limits=limits) as web, web.connection() as source:
        await source.ask(path, {"X-Forwarded-For": "203.0.113.7"})
        await source.block()
        assert await status_of(web, path, X_Forwarded_For="203.0.113.7") == 503
        async with web.connection() as another:
            await another.ask(path, {"X-Forwarded-For": "203.0.113.8"})
            assert another.status == 200
