"""Keys, the gate and its limits; virtual time."""

from __future__ import annotations

from uuid import UUID

import pytest
import trio

from actors import access
from actors.access import AccessRuleError, Caller, KeyRejected, check, in_force, mint
from actors.access_book import Act, Scope
from actors.gate import (
    FAILURES_BURST,
    LOOK_EVERY_S,
    SAVE_EVERY_S,
    Gate,
    GateRules,
    Knock,
    TooMany,
    Unknown,
    common_name,
    host_of,
    is_loopback,
)
from actors.ports import TransientError
from actors.rate_limit import RateLimiter
from daemon.store import MemoryStore
from tests.helpers.recording_log import RecordingLog
from tests.helpers.virtual_clock import VirtualClock

NOW = 1_000_000
USER = UUID(int=7)
FAR, HERE = "192.0.2.7:4711", "127.0.0.1:4711"


def act(target: str, at_ms: int = NOW) -> Act:
    return Act(at_ms=at_ms, actor="cli", address="local", act="key.x", target=target)


# --- keys -----------------------------------------------------------------------------------------


def test_a_key_opens_until_it_expires():
    key, token = mint(name="shop", scopes=["read"], expires_at_ms=NOW + 5, now_ms=NOW)
    keys = {key.prefix: key}
    assert check(token, keys, now_ms=NOW + 4) is key
    assert in_force(key, now_ms=NOW + 4)
    found = check(token, keys, now_ms=NOW + 5)
    assert isinstance(found, KeyRejected)
    assert "expired at 1970-01-01T00:16:40" in found.reason
    assert not in_force(key, now_ms=NOW + 5)


def test_a_key_has_160_bits_of_secret_and_shows_none_of_it():
    key, token = mint(name="shop", scopes=["read"], now_ms=NOW)
    tk, prefix, secret = token.split("_")
    assert (tk, prefix) == ("tk", key.prefix)
    assert 62 ** len(secret) > 2**160
    assert secret not in repr(key)
    assert repr(key.digest) not in repr(key)
    assert mint(name="shop", scopes=["read"], now_ms=NOW)[1] != token


@pytest.mark.parametrize(
    "change",
    [
        lambda token: token[:-1] + ("a" if token[-1] != "a" else "b"),
        lambda token: token + "x",
        lambda token: token[:-1],
        lambda token: token.replace("tk_", "tk-"),
        lambda token: "tk_" + "z" * 8 + token[11:],
        lambda _: "",
        lambda token: token + "\n",
    ],
)
def test_what_is_not_the_key_does_not_open(change):
    key, token = mint(name="shop", scopes=["read"], now_ms=NOW)
    found = check(change(token), {key.prefix: key}, now_ms=NOW)
    assert isinstance(found, KeyRejected)
    assert token.rpartition("_")[2] not in found.reason


def test_only_who_has_the_secret_is_told_of_a_revocation():
    key, token = mint(name="shop", scopes=["read"], now_ms=NOW)
    revoked = access.ApiKey(
        **{name: getattr(key, name) for name in key.__slots__} | {"revoked_at_ms": NOW}
    )
    keys = {key.prefix: revoked}
    assert "was revoked at" in check(token, keys, now_ms=NOW).reason
    wrong = token[:-1] + ("a" if token[-1] != "a" else "b")
    assert "no such API key" in check(wrong, keys, now_ms=NOW).reason


@pytest.mark.parametrize("known", [True, False])
def test_digests_are_compared_in_constant_time(monkeypatch, known):
    compared = []

    def compare(one, other):
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(access.hmac, "compare_digest", compare)
    key, token = mint(name="shop", scopes=["read"], now_ms=NOW)
    check(token, {key.prefix: key} if known else {}, now_ms=NOW)
    assert [(len(one), len(other)) for one, other in compared] == [(32, 32)]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"name": " "}, "name: give 1 to 100"),
        ({"name": "a\nb"}, "name: give"),
        ({"name": "a" * 101}, "name: give"),
        ({"scopes": []}, "scope: give at least one of read, write, admin"),
        ({"scopes": ["read", "root"]}, "'root' is unknown; give one of read, write, admin"),
        ({"expires_at_ms": NOW}, "has passed; it is 1970-01-01T00:16:40"),
    ],
)
def test_a_key_that_cannot_be_is_refused_in_words(wrong, says):
    with pytest.raises(AccessRuleError, match=says):
        mint(**{"name": "a", "scopes": ["read"], "now_ms": NOW} | wrong)


def test_admin_may_do_everything_the_others_only_what_they_are_for():
    def caller(*scopes):
        return Caller(actor="a", address="b", scopes=frozenset(scopes))

    assert all(caller(Scope.ADMIN).may(one) for one in Scope)
    assert [one for one in Scope if caller(Scope.WRITE).may(one)] == [Scope.WRITE]
    assert [one for one in Scope if caller(Scope.READ).may(one)] == [Scope.READ]
    assert caller().sees(USER)
    bound = Caller(actor="a", address="b", scopes=frozenset(), user_id=USER)
    assert bound.sees(USER)
    assert not bound.sees(UUID(int=8))


# --- rates ----------------------------------------------------------------------------------------


def test_a_bucket_gives_its_burst_and_then_its_rate():
    now = [0.0]
    limiter = RateLimiter(rate_per_s=2, burst=3, now_s=lambda: now[0])
    assert [limiter.take("a") for _ in range(4)] == [None, None, None, 1]
    assert limiter.take("b") is None
    now[0] = 0.5
    assert [limiter.take("a") for _ in range(2)] == [None, 1]
    now[0] = 100
    assert [limiter.take("a") for _ in range(4)] == [None, None, None, 1]


def test_the_wait_is_long_enough_where_the_rate_is_low():
    now = [0.0]
    limiter = RateLimiter(rate_per_s=0.1, burst=1, now_s=lambda: now[0])
    assert limiter.take("a") is None
    assert limiter.take("a") == 10
    now[0] = 10
    assert limiter.take("a") is None


def test_the_table_is_bounded_and_forgets_the_quietest():
    limiter = RateLimiter(rate_per_s=0.001, burst=1, max_buckets=2, now_s=lambda: 0.0)
    assert limiter.take("a") is None
    assert limiter.take("b") is None
    assert limiter.take("a") is not None
    assert limiter.take("c") is None  # b is forgotten
    assert limiter.known == 2
    assert limiter.take("a") is not None
    assert limiter.take("b") is None


# --- the gate -------------------------------------------------------------------------------------


class Door:
    """A gate on a memory store."""

    def __init__(self, **rules) -> None:
        self.store = MemoryStore()
        self.log = RecordingLog()
        self.clock = VirtualClock()
        self.gate = Gate(self.store, GateRules(**rules), clock=self.clock, log=self.log)

    async def key(self, *scopes: str, user_id: UUID | None = None, expires_s: int | None = None):
        now_ms = self.clock.now_ms()
        expires = None if expires_s is None else now_ms + expires_s * 1000
        key, token = mint(
            name="n",
            scopes=scopes or ["read"],
            user_id=user_id,
            expires_at_ms=expires,
            now_ms=now_ms,
        )
        await self.store.add_api_key(key, act(key.prefix))
        await self.gate.load()
        return key, token

    def knock(self, token: str | None = None, address: str = FAR, **more):
        given = None if token is None else f"Bearer {token}"
        return self.gate.admit(Knock(address=address, authorization=given, **more))


async def test_a_key_says_who_the_caller_is():
    door = Door()
    key, token = await door.key("write", user_id=USER)
    assert door.knock(token) == Caller(
        actor=f"key:{key.prefix}",
        address=FAR,
        scopes=frozenset({Scope.WRITE}),
        user_id=USER,
        key=key.prefix,
    )
    assert isinstance(door.gate.admit(Knock(address=FAR, authorization=f"bearer {token}")), Caller)
    assert isinstance(door.gate.admit(Knock(address=FAR, authorization=f"Basic {token}")), Unknown)
    assert isinstance(door.gate.admit(Knock(address=FAR, authorization=token)), Unknown)


@pytest.mark.parametrize("address", [HERE, "[::1]:5", "127.8.9.1:5", "[::ffff:127.0.0.1]:5"])
async def test_on_loopback_nothing_need_be_shown_where_that_is_configured(address):
    door = Door(anonymous=True)
    found = door.knock(address=address)
    assert isinstance(found, Caller)
    assert (found.actor, found.may(Scope.ADMIN)) == ("anonymous", True)
    assert isinstance(Door().knock(address=address), Unknown)
    assert isinstance(door.knock(address=address, direct=False), Unknown)


@pytest.mark.parametrize("address", [FAR, "[2001:db8::1]:5", "10.0.0.1:5", "", ":0", "junk"])
async def test_from_elsewhere_something_must_be_shown(address):
    found = Door(anonymous=True).knock(address=address)
    assert isinstance(found, Unknown)
    assert "tallyd access add" in found.reason


async def test_a_wrong_key_is_not_excused_by_loopback():
    door = Door(anonymous=True)
    assert isinstance(door.knock("tk_wrong", HERE), Unknown)


async def test_strangers_near_may_read_what_is_open_and_others_nothing():
    gate = Door().gate
    near, far = (gate.admit_stranger(Knock(address=one)) for one in (HERE, FAR))
    assert isinstance(near, Caller)
    assert isinstance(far, Caller)
    assert (near.scopes, far.scopes) == ({Scope.READ}, frozenset())
    proxied = gate.admit_stranger(Knock(address=HERE, direct=False))
    assert isinstance(proxied, Caller)
    assert proxied.scopes == frozenset()


SHOP = "CN=shop,O=Example\\, Inc."


@pytest.mark.parametrize("listed", ["shop", SHOP, "*"])
async def test_a_certificate_stands_for_a_key(listed):
    door = Door(subjects={listed: frozenset({Scope.READ})})
    found = door.knock(subject=SHOP)
    assert isinstance(found, Caller)
    assert (found.actor, found.scopes) == (f"mtls:{SHOP}", {Scope.READ})


async def test_a_certificate_that_is_not_listed_is_named_in_the_answer():
    found = Door(subjects={"shops": frozenset({Scope.READ})}).knock(subject=SHOP)
    assert isinstance(found, Unknown)
    assert SHOP in found.reason
    assert "access.mtls_subjects" in found.reason


async def test_a_whole_subject_counts_before_its_common_name():
    door = Door(
        subjects={"shop": frozenset({Scope.READ}), SHOP: frozenset({Scope.ADMIN}), "*": frozenset()}
    )
    found = door.knock(subject=SHOP)
    assert isinstance(found, Caller)
    assert found.may(Scope.ADMIN)


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        (SHOP, "shop"),
        ("O=x,CN=a\\,b", "a,b"),
        ("O=CN\\=x", None),
        ("OU=u+CN=shop", "shop"),
        ("", None),
        ("CN=\\", ""),
    ],
)
def test_common_names(subject, name):
    assert common_name(subject) == name


@pytest.mark.parametrize(
    ("address", "host", "near"),
    [
        ("127.0.0.1:1", "127.0.0.1", True),
        ("[::1]:1", "::1", True),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", False),
        ("/run/socket", "/run/socket", False),
    ],
)
def test_hosts(address, host, near):
    assert host_of(address) == host
    assert is_loopback(host) is near


async def test_each_key_has_a_rate_of_its_own():
    door = Door(rate_per_s=1, burst=2)
    (key, one), (_, two) = await door.key(), await door.key()
    assert [isinstance(door.knock(one, HERE), Caller) for _ in range(3)] == [True, True, False]
    assert door.knock(one, HERE) == TooMany(1, f"the API key {key.prefix}")
    assert isinstance(door.knock(two, HERE), Caller)


async def test_each_address_has_a_rate_but_not_loopback():
    door = Door(rate_per_s=1, burst=2, anonymous=True)
    assert all(isinstance(door.knock(address=HERE), Caller) for _ in range(9))
    assert [isinstance(door.knock(address=FAR), Unknown) for _ in range(3)] == [True, True, False]
    six = [door.knock(address=f"[2001:db8::{n}]:1") for n in range(1, 4)]
    assert six[-1] == TooMany(1, "the address 2001:db8::/64")
    assert isinstance(door.knock(address="192.0.2.8:1"), Unknown)
    assert isinstance(door.gate.admit_stranger(Knock(address=FAR)), TooMany)


async def test_failed_attempts_are_limited_by_address_and_logged_without_the_secret():
    door = Door()
    key, token = await door.key()
    wrong = token[:-1] + ("a" if token[-1] != "a" else "b")
    found = [door.knock(wrong) for _ in range(FAILURES_BURST + 3)]
    assert [isinstance(one, TooMany) for one in found].count(True) == 3
    assert isinstance(door.knock(token), Caller)  # who has the key is not kept out by others
    assert isinstance(door.knock(wrong, "192.0.2.8:1"), Unknown)
    lines = door.log.of("was not let in")
    assert len(lines) == FAILURES_BURST + 1
    assert lines[0].fields["key"] == key.prefix
    assert wrong.rpartition("_")[2] not in str(lines)


async def test_keys_made_and_revoked_beside_the_daemon_are_seen(autojump_clock, nursery):
    door = Door()
    nursery.start_soon(door.gate.run)
    key, token = mint(name="n", scopes=["read"], now_ms=door.clock.now_ms())
    await door.store.add_api_key(key, act(key.prefix))
    assert isinstance(door.knock(token), Unknown)
    assert not door.gate.has_key
    await trio.sleep(2 * LOOK_EVERY_S)
    assert isinstance(door.knock(token), Caller)
    assert door.gate.has_key
    await door.store.revoke_api_key(key.prefix, act(key.prefix, door.clock.now_ms()))
    await trio.sleep(2 * LOOK_EVERY_S)
    found = door.knock(token)
    assert isinstance(found, Unknown)
    assert "was revoked" in found.reason
    nursery.cancel_scope.cancel()


async def test_last_uses_are_written_once_a_minute_and_at_the_end(autojump_clock):
    door = Door()
    _, token = await door.key()
    writes = []
    touch = door.store.touch_api_keys

    async def counting(used):
        writes.append(dict(used))
        await touch(used)

    door.store.touch_api_keys = counting
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.gate.run)
        for _ in range(50):
            await trio.sleep(1)
            door.knock(token)
        assert writes == []
        await trio.sleep(SAVE_EVERY_S)
        assert len(writes) == 1
        await trio.sleep(3 * SAVE_EVERY_S)
        assert len(writes) == 1
        door.knock(token)
        used_ms = door.clock.now_ms()
        nursery.cancel_scope.cancel()
    assert len(writes) == 2
    assert (await door.store.api_keys())[0].last_used_at_ms == used_ms


async def test_a_store_that_fails_costs_nobody_their_entry(autojump_clock):
    door = Door()
    key, token = await door.key()
    healthy = True

    def failing(method):
        async def call(*args):
            await trio.lowlevel.checkpoint()
            if not healthy:
                raise TransientError("locked")
            return await method(*args)

        return call

    for name in ("api_keys_revision", "touch_api_keys"):
        setattr(door.store, name, failing(getattr(door.store, name)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.gate.run)
        healthy = False
        assert isinstance(door.knock(token), Caller)
        used_ms = door.clock.now_ms()
        await trio.sleep(SAVE_EVERY_S + 2)
        assert isinstance(door.gate.admit(Knock(address=FAR)), Unknown)
        assert door.log.of("cannot be read")
        assert door.log.of("cannot be saved")
        healthy = True
        await trio.sleep(SAVE_EVERY_S + 2)
        assert (await door.store.api_keys())[0].last_used_at_ms == used_ms
        nursery.cancel_scope.cancel()
    assert key.last_used_at_ms is None


async def test_a_clock_moved_back_brings_no_key_back_to_life():
    door = Door()
    _, token = await door.key(expires_s=60)
    door.clock.jump(61)
    assert isinstance(door.knock(token), Unknown)
    door.clock.jump(-3600)
    found = door.knock(token)
    assert isinstance(found, Unknown)
    assert "expired" in found.reason
    assert not door.gate.has_key
    (line,) = door.log.of("the clock was moved back")
    assert line.fields["back_by_s"] == 3600
    door.clock.jump(3700)
    door.knock(token)
    door.clock.jump(-3600)
    door.knock(token)
    assert len(door.log.of("the clock was moved back")) == 2


async def test_who_stays_is_sent_away_with_the_key(autojump_clock, nursery):
    door = Door()
    nursery.start_soon(door.gate.run)
    (one, first), (two, second) = await door.key(), await door.key(expires_s=60)
    ended = []
    callers = [door.knock(first), door.knock(second), door.knock(address=HERE)]
    assert [isinstance(caller, Caller) for caller in callers] == [True, True, False]
    nobody = Caller(actor="anonymous", address=HERE, scopes=frozenset())
    with (
        door.gate.staying(callers[0], lambda: ended.append(one.prefix)),
        door.gate.staying(callers[1], lambda: ended.append(two.prefix)),
        door.gate.staying(nobody, lambda: ended.append("nobody")),
    ):
        await trio.sleep(5)
        assert ended == []
        await door.store.revoke_api_key(one.prefix, act(one.prefix, door.clock.now_ms()))
        await trio.sleep(2 * LOOK_EVERY_S)
        assert set(ended) == {one.prefix}
        await trio.sleep(60)
        assert set(ended) == {one.prefix, two.prefix}
    ended.clear()
    await trio.sleep(5)
    assert ended == []
    nursery.cancel_scope.cancel()


async def test_who_needs_a_key_is_judged_by_what_the_store_says_at_that_moment():
    """No look has come by since the key was made, and none since it was revoked."""
    door = Door(anonymous=True)
    key, token = mint(name="n", scopes=["write"], user_id=USER, now_ms=door.clock.now_ms())
    shown = Knock(address=HERE, authorization=f"Bearer {token}")
    assert isinstance(await door.gate.admit_by_key(shown), Unknown)
    await door.store.add_api_key(key, act(key.prefix))
    assert isinstance(await door.gate.admit_by_key(shown), Caller)
    await door.store.revoke_api_key(key.prefix, act(key.prefix, door.clock.now_ms()))
    found = await door.gate.admit_by_key(shown)
    assert isinstance(found, Unknown)
    assert "was revoked" in found.reason


async def test_where_a_key_is_needed_neither_nearness_nor_a_certificate_stands_for_it():
    door = Door(anonymous=True, subjects={"*": frozenset({Scope.ADMIN})})
    for knock in (Knock(address=HERE), Knock(address=FAR, subject="CN=shop")):
        assert isinstance(door.gate.admit(knock), Caller)
        assert await door.gate.admit_by_key(knock) == Unknown("no API key was sent")


async def test_a_key_is_not_taken_on_trust_while_the_store_cannot_be_asked(monkeypatch):
    door = Door()
    _, token = await door.key()

    async def locked():
        await trio.lowlevel.checkpoint()
        raise TransientError("locked")

    monkeypatch.setattr(door.store, "api_keys_revision", locked)
    with pytest.raises(TransientError):
        await door.gate.admit_by_key(Knock(address=FAR, authorization=f"Bearer {token}"))


async def test_who_sends_no_key_is_counted_by_address():
    door = Door(rate_per_s=0.5, burst=1)
    assert isinstance(await door.gate.admit_by_key(Knock(address=FAR)), Unknown)
    assert isinstance(await door.gate.admit_by_key(Knock(address=FAR)), TooMany)
