"""The gate that every request of REST and gRPC passes: who is it, may it come in, how often.

All keys are in memory; the store is looked at once a second for keys that were added or revoked
beside this process. Admitting is synchronous and touches no disk, except where a revocation must
count at once (`admit_by_key`): last uses are written together, once a minute.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache

import trio

from actors.access import ANONYMOUS, Caller, KeyRejected, check, in_force
from actors.access_book import AccessBook, ApiKey, Scope
from actors.ports import Log, PersistentError, TransientError, WallClock
from actors.rate_limit import RateLimiter

LOOK_EVERY_S = 1.0
SAVE_EVERY_S = 60.0
FAILURES_BURST = 20
FAILURES_PER_S = 0.5
CLOCK_SLACK_MS = 60_000
"""A clock that goes back by less is a clock that was set right."""
ANYBODY = "*"
"""Among `GateRules.subjects`: every verified client certificate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRules:
    """What the configuration says of access."""

    anonymous: bool = False
    """Callers on loopback that show nothing may do everything."""
    subjects: Mapping[str, frozenset[Scope]] = field(default_factory=dict)
    """Common name or whole subject of a client certificate, or `*` → what it may do."""
    rate_per_s: float = 0.0
    """Per key, and per address that is not loopback; 0: no limit."""
    burst: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Knock:
    """What a request shows of who makes it."""

    address: str
    """Host and port, `[::1]:4711`."""
    authorization: str | None = None
    """The header of that name, or metadata."""
    subject: str | None = None
    """Of a verified client certificate, RFC 4514."""
    direct: bool = True
    """Nothing says that a proxy, or a web page of another site, stands between."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The gate does not know the caller; `reason` is for them, without secrets."""

    reason: str


@dataclass(frozen=True, slots=True)
class TooMany:
    """The caller asks too often."""

    retry_after_s: int
    what: str
    """What is counted, for people: `the API key ab12cd34`."""


class Gate:
    """Knows the keys; `run` keeps it up to date."""

    def __init__(self, book: AccessBook, rules: GateRules, *, clock: WallClock, log: Log) -> None:
        self.rules = rules
        self._book = book
        self._clock = clock
        self._log = log
        self._keys: dict[str, ApiKey] = {}
        self._revision = (0, 0)
        self._learned = 0
        self._used: dict[str, int] = {}
        self._latest_ms = 0
        self._clock_told = False
        self._limiter = (
            RateLimiter(rate_per_s=rules.rate_per_s, burst=rules.burst)
            if rules.rate_per_s
            else None
        )
        self._looked: list[Callable[[], None]] = []
        self._staying: dict[object, tuple[Caller, Callable[[], None]]] = {}
        self._failures = RateLimiter(rate_per_s=FAILURES_PER_S, burst=FAILURES_BURST)

    @property
    def has_key(self) -> bool:
        """Whether anybody could come in with a key now."""
        now_ms = self._now_ms()
        return any(in_force(key, now_ms=now_ms) for key in self._keys.values())

    def lets_stay(self, caller: Caller) -> bool:
        """Whether somebody who was admitted, and is still here, still may be."""
        if caller.key is None:
            return True
        key = self._keys.get(caller.key)
        return key is not None and in_force(key, now_ms=self._now_ms())

    @contextmanager
    def staying(self, caller: Caller, end: Callable[[], None]) -> Iterator[None]:
        """Call `end` when the caller may no longer stay, within a second or two."""
        ticket = object()
        self._staying[ticket] = caller, end
        try:
            yield
        finally:
            del self._staying[ticket]

    def after_each_look(self, look: Callable[[], None]) -> None:
        """Call `look` about once a second, when the keys are up to date; it must not fail."""
        self._looked.append(look)

    async def load(self) -> None:
        """Read the keys. Raises TransientError or PersistentError."""
        while True:
            learned = self._learned
            # The revision first: what is added in between is seen by the next look.
            revision = await self._book.api_keys_revision()
            keys = {key.prefix: key for key in await self._book.api_keys()}
            if learned == self._learned:
                break
            # What was learned meanwhile may be newer than what was read.
        self._keys = keys
        self._revision = revision

    def learn(self, key: ApiKey) -> None:
        """Know of a key that this process has just stored, added or revoked, from now on.

        Streams that a revoked key opened end with the next look, within a second or two.
        """
        self._learned += 1
        self._keys[key.prefix] = key

    async def run(self) -> None:
        """Keep the keys up to date and save when they were used, until cancelled."""
        try:
            while True:
                save_at_s = trio.current_time() + SAVE_EVERY_S
                while trio.current_time() < save_at_s:
                    await trio.sleep(LOOK_EVERY_S)
                    await self._look()
                    for look in self._looked:
                        look()
                    for caller, end in tuple(self._staying.values()):
                        if not self.lets_stay(caller):
                            end()
                await self._save()
        finally:
            with trio.move_on_after(1) as last:
                last.shield = True
                await self._save()

    def admit(self, knock: Knock) -> Caller | Unknown | TooMany:
        """Who it is; `Unknown` if that cannot be said, `TooMany` if they were here too often."""
        host = host_of(knock.address)
        near = is_loopback(host)
        if knock.authorization is not None:
            return self._by_key(knock, host, near=near)
        if knock.subject is not None:
            scopes = self._scopes_of(knock.subject)
            if scopes is not None:
                name = f"mtls:{knock.subject}"
                return self._limited(name, f"the certificate {knock.subject}") or Caller(
                    actor=name, address=knock.address, scopes=scopes
                )
        if self.rules.anonymous and near and knock.direct:
            return Caller(actor=ANONYMOUS, address=knock.address, scopes=frozenset({Scope.ADMIN}))
        return self._limited_address(host, near=near) or Unknown(_how_to_come_in(knock))

    async def admit_by_key(self, knock: Knock) -> Caller | Unknown | TooMany:
        """Who it is by an API key and nothing else; the store is asked for the keys first.

        A key that was revoked beside this process is refused from the next request on, not from
        the next look. Raises TransientError or PersistentError when the store cannot be asked.
        """
        host = host_of(knock.address)
        near = is_loopback(host)
        if knock.authorization is None:
            return self._limited_address(host, near=near) or Unknown("no API key was sent")
        if await self._book.api_keys_revision() != self._revision:
            await self.load()
        # No await from here on: what was read is what is judged by.
        return self._by_key(knock, host, near=near)

    def admit_stranger(self, knock: Knock) -> Caller | TooMany:
        """For what is open to everybody: who is on this machine may read, others nothing."""
        host = host_of(knock.address)
        near = is_loopback(host)
        scopes = frozenset({Scope.READ}) if near and knock.direct else frozenset[Scope]()
        return self._limited_address(host, near=near) or Caller(
            actor=ANONYMOUS, address=knock.address, scopes=scopes
        )

    def _by_key(self, knock: Knock, host: str, *, near: bool) -> Caller | Unknown | TooMany:
        assert knock.authorization is not None
        scheme, _, token = knock.authorization.partition(" ")
        found: ApiKey | KeyRejected
        if scheme.lower() == "bearer":
            found = check(token.strip(), self._keys, now_ms=self._now_ms())
        else:
            found = KeyRejected("the authorization must be `Bearer` and an API key")
        if isinstance(found, KeyRejected):
            return self._failed(knock, found, host)
        self._used[found.prefix] = self._clock.now_ms()
        limited = self._limited(found.prefix, f"the API key {found.prefix}")
        return (
            limited
            or self._limited_address(host, near=near)
            or Caller(
                actor=f"key:{found.prefix}",
                key=found.prefix,
                address=knock.address,
                scopes=found.scopes,
                user_id=found.user_id,
            )
        )

    def _failed(self, knock: Knock, rejected: KeyRejected, host: str) -> Unknown | TooMany:
        wait_s = self._failures.take(network_of(host))
        if wait_s is not None:
            return TooMany(wait_s, "failed attempts to come in from this address")
        self._log.warning(
            "a caller was not let in",
            peer=knock.address,
            reason=rejected.reason,
            key=rejected.prefix if rejected.prefix in self._keys else None,
        )
        return Unknown(rejected.reason)

    def _limited(self, who: str, what: str) -> TooMany | None:
        if self._limiter is None:
            return None
        wait_s = self._limiter.take(who)
        return None if wait_s is None else TooMany(wait_s, what)

    def _limited_address(self, host: str, *, near: bool) -> TooMany | None:
        """Loopback is not counted: a proxy there would make all of its clients one."""
        if near or self._limiter is None:
            return None
        network = network_of(host)
        wait_s = self._limiter.take(("address", network))
        return None if wait_s is None else TooMany(wait_s, f"the address {network}")

    def _scopes_of(self, subject: str) -> frozenset[Scope] | None:
        subjects = self.rules.subjects
        for name in (subject, common_name(subject), ANYBODY):
            if name is not None and name in subjects:
                return subjects[name]
        return None

    def _now_ms(self) -> int:
        """The wall clock, but never before what it has said already.

        A clock that is moved back would otherwise bring expired keys back to life.
        """
        now_ms = self._clock.now_ms()
        behind_ms = self._latest_ms - now_ms
        if behind_ms <= 0:
            self._latest_ms = now_ms
            self._clock_told = False
        elif behind_ms > CLOCK_SLACK_MS and not self._clock_told:
            self._clock_told = True
            self._log.warning(
                "the clock was moved back; keys go on expiring by the latest time it has shown:"
                " set the clock right, or restart tallyd if it was wrong before",
                back_by_s=behind_ms // 1000,
            )
        return self._latest_ms

    async def _look(self) -> None:
        try:
            if await self._book.api_keys_revision() != self._revision:
                await self.load()
                self._log.info("api keys read again", keys=len(self._keys))
        except (TransientError, PersistentError) as error:
            # The keys as they were known go on: said where the store is used.
            self._log.debug("api keys cannot be read", reason=str(error))

    async def _save(self) -> None:
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await self._book.touch_api_keys(used)
        except (TransientError, PersistentError) as error:
            self._used = {**used, **self._used}
            self._log.debug("the last use of api keys cannot be saved", reason=str(error))


def common_name(subject: str) -> str | None:
    """The CN of an RFC 4514 name, unescaped; None if it has none."""
    for part in _unescaped_split(subject):
        kind, _, value = part.partition("=")
        if kind.strip().upper() == "CN":
            return value
    return None


def _unescaped_split(subject: str) -> list[str]:
    parts, part, characters = [], "", iter(subject)
    for character in characters:
        if character == "\\":
            part += next(characters, "")
        elif character in ",+":
            parts.append(part)
            part = ""
        else:
            part += character
    return [*parts, part]


def host_of(address: str) -> str:
    """The host of `host:port` or `[host]:port`."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.rpartition(":")[0] or address


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    found = _parsed(host)
    return found is not None and found.is_loopback


@lru_cache(maxsize=1024)
def network_of(host: str) -> str:
    """What is counted as one address: of IPv6 the network that one customer is given."""
    found = _parsed(host)
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((found, 64), strict=False))
    return host


def _parsed(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


def _how_to_come_in(knock: Knock) -> str:
    if knock.subject is not None:
        return (
            f"the certificate {knock.subject} is not in access.mtls_subjects; send"
            " `authorization: Bearer` and an API key, or have the subject added"
        )
    return "send `authorization: Bearer` and an API key, made with `tallyd access add`"
