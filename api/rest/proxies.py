"""Whose request a proxy hands on: the client's address, where the proxy may be believed.

A header is a claim of whoever sent it. Each proxy adds the address that it was asked from at the
right, so one reads from there, for as long as those who speak are trusted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from werkzeug.datastructures import Headers

Network = IPv4Network | IPv6Network
_Address = IPv4Address | IPv6Address

MAX_HOPS = 20
"""More proxies stand in no row."""
_PORT = re.compile(r":[0-9]{1,5}")


class Proxies:
    """The networks whose word on the client is taken."""

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = tuple(trusted)

    def client(self, host: str, port: int, headers: Headers) -> str:
        """`host:port` of who asks, without a port where a proxy says who it is.

        `host` and `port` are the connection's. X-Forwarded-For counts before Forwarded (RFC 7239);
        an address that is hidden or unreadable is that of the proxy that says so.
        """
        peer = _parsed(host) if self._trusted else None
        if peer is None or not self._trusts(peer):
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        found = peer
        for claim in reversed(_claims(headers)[-MAX_HOPS:]):
            said = _parsed(_without_port(claim))
            if said is None:
                break
            found = said
            if not self._trusts(said):
                break
        return f"[{found}]" if found.version == 6 else str(found)

    def _trusts(self, address: _Address) -> bool:
        return any(address in network for network in self._trusted)


def _claims(headers: Headers) -> list[str]:
    """The addresses that proxies say they were asked from, the nearest last."""
    listed = ",".join(headers.getlist("X-Forwarded-For"))
    if listed:
        return [one.strip() for one in listed.split(",")]
    # Not split by the rules for quotes: one that a client leaves open would swallow what the next
    # proxy adds. No address has a comma.
    return [_for(one) for one in ",".join(headers.getlist("Forwarded")).split(",")]


def _for(element: str) -> str:
    for pair in element.split(";"):
        name, _, value = pair.partition("=")
        if name.strip().lower() == "for" and value.count('"') % 2 == 0:
            return value.strip().strip('"')
    return ""


def _without_port(claim: str) -> str:
    """`192.0.2.1:4711` and `[2001:db8::1]:4711` without what is no address."""
    if claim.startswith("["):
        host, _, rest = claim[1:].partition("]")
        return host if not rest or _PORT.fullmatch(rest) else ""
    return _PORT.sub("", claim) if claim.count(":") == 1 else claim


def _parsed(text: str) -> _Address | None:
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found
