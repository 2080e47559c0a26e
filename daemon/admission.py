"""The gate as the configuration wants it, and the refusal to stand open to a network."""

from __future__ import annotations

from actors.access_book import AccessBook, Scope
from actors.gate import Gate, GateRules, is_loopback
from actors.ports import Log, PersistentError
from daemon.clock import SystemClock
from daemon.config import Config

NOBODY = (
    "nobody can use the APIs: there is no API key in force, and access.anonymous is off; make a key"
    " with `tallyd access add`, or set access.anonymous to loopback"
)
_WAYS = (
    "Make an API key with `tallyd access add --name NAME --scope admin` first, or listen on"
    " 127.0.0.1"
)


async def open_gate(config: Config, book: AccessBook, *, listens: bool = True, log: Log) -> Gate:
    """A gate that has read its keys; `listens`: there are listeners that it stands before.

    Raises PersistentError where a listener can be reached from a network and nobody could ever come
    in, which means that somebody expects it to be open.
    """
    access = config.access
    gate = Gate(
        book,
        GateRules(
            anonymous=access.anonymous,
            subjects={
                subject: frozenset(Scope(word) for word in words)
                for subject, words in access.subjects
            },
            rate_per_s=access.rate_per_s,
            burst=access.burst,
        ),
        clock=SystemClock(),
        log=log,
    )
    await gate.load()
    if not listens:
        return gate
    objection = why_not(config, has_key=gate.has_key)
    if objection is not None:
        raise PersistentError(objection)
    if not gate.has_key and not access.anonymous and not access.subjects:
        log.warning(NOBODY)
    return gate


def why_not(config: Config, *, has_key: bool) -> str | None:
    """Why the daemon would not start; `has_key`: some API key is in force."""
    if has_key:
        return None
    if not _near(config.http.host):
        return (
            f"http.host is {config.http.host}, which others can reach, and there is no API key in"
            f" force: nobody could use it. {_WAYS} (http.host)"
        )
    if not _near(config.server.host) and not config.access.subjects:
        return (
            f"server.host is {config.server.host}, which others can reach, and there is no API key"
            f" in force: nobody could use it. {_WAYS} (server.host), or with server.tls.mode mtls"
            " name your clients' certificates in access.mtls_subjects (`admin:*` is every"
            " certificate of server.tls.client_ca, as GoiPay has it)"
        )
    return None


def _near(host: str) -> bool:
    return host == "localhost" or is_loopback(host)
