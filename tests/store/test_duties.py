"""Duties, posts and standings on PostgreSQL; the twin in memory is tested beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from actors.duties import DutyLostError
from actors.ports import PersistentError, TransientError
from daemon.store import SharedStore, open_shared_store
from daemon.store.duties import SqlDuties
from tests.helpers.ledger import grow
from tests.helpers.sessions import end_holders, end_sessions, holders, run
from tests.store.conftest import ignore


@asynccontextmanager
async def member(url: str) -> AsyncIterator[SharedStore]:
    """One process, its duties running."""
    async with open_shared_store(url, on_commit=ignore) as store, trio.open_nursery() as nursery:
        nursery.start_soon(store.duties.run)
        yield store
        nursery.cancel_scope.cancel()


async def holding(url: str, duty: str, taken: trio.Event) -> None:
    """A process that takes a duty, and ends with the store that breaks."""
    async with open_shared_store(url, on_commit=ignore) as store, trio.open_nursery() as nursery:
        nursery.start_soon(store.duties.run)
        await store.duties.take(duty, holder="the first")
        await store.duties.report(duty, b"fine")
        taken.set()
        await trio.sleep_forever()


async def shout(kind: str, body: bytes) -> bytes:
    await trio.lowlevel.checkpoint()
    return kind.encode() + b":" + body.upper()


async def until(reached: Callable[[], object]) -> None:
    """Looks again and again; a test that looks in vain is ended by its limit."""
    while not reached():  # noqa: ASYNC110 - no event comes of another process' doing
        await trio.sleep(0.01)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for an answer."""
    monkeypatch.setattr("daemon.store.duties.ANSWER_S", 0.3)


# --- holding --------------------------------------------------------------------------------------


async def test_a_stand_by_takes_over_when_the_holder_ends(shared_url: str) -> None:
    async with member(shared_url) as second, trio.open_nursery() as nursery:
        async with member(shared_url) as first:
            await first.duties.take("watch:BTC", holder="first")
            await first.duties.take("deliver", holder="first")
            nursery.start_soon(lambda: second.duties.take("watch:BTC", holder="second"))
            await until(lambda: second.duties.statistics().awaited)
            await second.duties.take("watch:LTC", holder="second")
            assert second.duties.statistics().held == ("watch:LTC",)
            assert first.duties.statistics().held == ("deliver", "watch:BTC")
        await until(lambda: second.duties.statistics().held == ("watch:BTC", "watch:LTC"))
        assert second.duties.statistics().awaited == ()


async def test_who_gives_up_standing_by_holds_nothing(shared_url: str) -> None:
    async with member(shared_url) as first, member(shared_url) as second:
        await first.duties.take("watch:BTC", holder="first")
        with trio.move_on_after(0.05):
            await second.duties.take("watch:BTC", holder="second")
        assert second.duties.statistics().awaited == ()
        assert second.duties.statistics().held == ()
    async with member(shared_url) as third:
        await third.duties.take("watch:BTC", holder="third")


async def test_a_duty_ends_with_the_connection_it_is_bound_to(shared_url: str) -> None:
    """An administrator ends the session: the holder ends, the stand-by has the duty."""
    taken, lost = trio.Event(), trio.Event()

    async def hold() -> None:
        with pytest.raises(DutyLostError, match=r"database\.url .*held watch:BTC; another"):
            await holding(shared_url, "watch:BTC", taken)
        lost.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold)
        await taken.wait()
        async with member(shared_url) as second:
            assert end_holders(shared_url) == 1
            await second.duties.take("watch:BTC", holder="second")
            await lost.wait()
            await second.duties.report("watch:BTC", b"fine, too")
            await until(lambda: _body(second.duties) == b"fine, too")
            found = second.duties.standing("watch:BTC")
            assert found is not None
            assert found.holder == "second"


async def test_nothing_is_recorded_under_a_duty_that_is_lost(shared_url: str) -> None:
    """The writes of a holder go through the session that is gone."""
    returned: list[int] = []
    with pytest.raises(DutyLostError):
        await _write_until_it_breaks(shared_url, returned)
    assert returned == [1]
    async with member(shared_url) as after:
        assert await after.last_seq() == 1


async def _write_until_it_breaks(url: str, returned: list[int]) -> None:
    async with open_shared_store(url, on_commit=ignore) as store:
        await store.duties.take("watch:BTC", holder="first")
        for number in (1, 2):
            await grow(store, number)
            returned.append(number)
            assert end_holders(url) == 1


# --- posts ----------------------------------------------------------------------------------------


async def test_posts_are_answered_by_the_holder(shared_url: str) -> None:
    async with (
        member(shared_url) as asker,
        member(shared_url) as holder,
        trio.open_nursery() as nursery,
    ):
        await holder.duties.take("watch:BTC", holder="h")
        nursery.start_soon(holder.duties.serve, "watch:BTC", shout)
        answers: list[bytes] = []

        async def ask(duties: SqlDuties, number: int) -> None:
            answers.append(await duties.ask("watch:BTC", "create", b"n%d" % number))

        async with trio.open_nursery() as asking:
            for number in range(250):
                asking.start_soon(ask, (asker.duties, holder.duties)[number % 2], number)
        assert sorted(answers) == sorted(b"create:N%d" % number for number in range(250))
        assert asker.duties.statistics().asked == 0
        assert holder.duties.statistics().answering == 0
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "error", [TransientError("disk full: ä"), PersistentError("wrong network")]
)
async def test_failures_of_the_world_reach_the_asker(shared_url: str, error: Exception) -> None:
    async def fail(_kind: str, _body: bytes) -> bytes:
        raise error

    async with (
        member(shared_url) as asker,
        member(shared_url) as holder,
        trio.open_nursery() as nursery,
    ):
        await holder.duties.take("deliver", holder="h")
        nursery.start_soon(holder.duties.serve, "deliver", fail)
        with pytest.raises(type(error), match=str(error)):
            await asker.duties.ask("deliver", "test", b"\x00\xff")
        nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("impatient")
async def test_what_nobody_begins_with_is_withdrawn(shared_url: str) -> None:
    async with member(shared_url) as asker:
        with pytest.raises(TransientError, match=r"nothing was done; .*--role deliver"):
            await asker.duties.ask("deliver", "test", b"abc")
        assert run(shared_url, "SELECT count(*) FROM posts") == 0
        assert asker.duties.statistics().asked == 0


@pytest.mark.usefixtures("impatient")
async def test_an_answer_that_does_not_come_in_time(shared_url: str) -> None:
    async with (
        member(shared_url) as asker,
        member(shared_url) as holder,
        trio.open_nursery() as nursery,
    ):
        await holder.duties.take("deliver", holder="h")

        async def think(_kind: str, _body: bytes) -> bytes:
            await trio.sleep_forever()
            raise AssertionError

        nursery.start_soon(holder.duties.serve, "deliver", think)
        with pytest.raises(TransientError, match="not known whether anything was done"):
            await asker.duties.ask("deliver", "test", b"abc")
        assert holder.duties.statistics().answering == 1
        nursery.cancel_scope.cancel()


async def test_what_a_dead_holder_began_is_done_again_by_the_next(shared_url: str) -> None:
    begun = trio.Event()

    async def die_thinking() -> None:
        async with member(shared_url) as first:
            await first.duties.take("deliver", holder="first")
            serving = trio.CancelScope()

            async def think(_kind: str, _body: bytes) -> bytes:
                begun.set()
                serving.cancel()
                return await never()

            with serving:
                await first.duties.serve("deliver", think)

    async def never() -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    async def take_over() -> None:
        await begun.wait()
        await second.duties.take("deliver", holder="second")
        await second.duties.serve("deliver", shout)

    async with member(shared_url) as second, trio.open_nursery() as nursery:
        nursery.start_soon(die_thinking)
        await until(lambda: holders(shared_url) == 1)
        nursery.start_soon(take_over)
        assert await second.duties.ask("deliver", "test", b"abc") == b"test:ABC"
        nursery.cancel_scope.cancel()


async def test_a_server_that_forgot_a_post_is_a_failure_of_the_world(
    shared_url: str, impatient: None
) -> None:
    """The tables of posts are empty after a crash of the server."""
    async with member(shared_url) as asker, trio.open_nursery() as nursery:

        async def forget() -> None:
            await until(lambda: run(shared_url, "SELECT count(*) FROM posts") == 1)
            run(shared_url, "DELETE FROM posts")

        nursery.start_soon(forget)
        with pytest.raises(TransientError, match="not known whether anything was done"):
            await asker.duties.ask("deliver", "test", b"abc")


async def test_without_notifications_posts_and_answers_come_all_the_same(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for where in ("daemon.store.posts.CHANNEL", "daemon.store.shared_session.CHANNEL"):
        monkeypatch.setattr(where, "nobody_listens")
    async with (
        member(shared_url) as asker,
        member(shared_url) as holder,
        trio.open_nursery() as nursery,
    ):
        await holder.duties.take("deliver", holder="h")
        nursery.start_soon(holder.duties.serve, "deliver", shout)
        assert await asker.duties.ask("deliver", "test", b"abc") == b"test:ABC"
        nursery.cancel_scope.cancel()


async def test_old_posts_are_swept_away(shared_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run(
        shared_url,
        "INSERT INTO posts (id, duty, kind, body, asked_by, asked_at_ms)"
        " SELECT gen_random_uuid(), 'deliver', 'test', '', 'somebody', 1"
        " FROM generate_series(1, 100)",
    )
    monkeypatch.setattr("daemon.store.duties.SWEEP_EVERY_S", 0.1)
    asked: list[str] = []

    async def note(kind: str, _body: bytes) -> bytes:
        asked.append(kind)
        return b""

    async with member(shared_url) as store, trio.open_nursery() as nursery:
        await store.duties.take("deliver", holder="h")
        nursery.start_soon(store.duties.serve, "deliver", note)
        await until(lambda: run(shared_url, "SELECT count(*) FROM posts") == 0)
        await store.duties.ask("deliver", "new", b"")
        assert asked == ["new"], "what nobody waits for any more is not done"
        nursery.cancel_scope.cancel()


# --- standings and announcements ------------------------------------------------------------------


async def test_a_standing_is_known_to_all_and_ends_with_its_holder(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.store.duties.CONFIRM_EVERY_S", 0.1)
    said_at = "SELECT at_ms FROM standings WHERE duty = 'watch:BTC'"
    async with member(shared_url) as other:
        assert other.duties.standing("watch:BTC") is None
        async with member(shared_url) as holder:
            await holder.duties.take("watch:BTC", holder="shop-1 pid 7")
            for body in (b"", b"fine", b"syncing"):
                await holder.duties.report("watch:BTC", body)
                await until(lambda body=body: _body(other.duties) == body)
            found = other.duties.standing("watch:BTC")
            assert found is not None
            assert (found.duty, found.holder) == ("watch:BTC", "shop-1 pid 7")
            at_ms = run(shared_url, said_at)
            await until(lambda: run(shared_url, said_at) > at_ms)
            assert other.duties.standing("watch:LTC") is None
        monkeypatch.setattr("daemon.store.duties.FRESH_S", 0.5)
        await until(lambda: other.duties.standing("watch:BTC") is None)


def _body(duties: SqlDuties) -> bytes | None:
    found = duties.standing("watch:BTC")
    return None if found is None else found.body


async def test_an_announcement_reaches_everybody_who_listens(shared_url: str) -> None:
    async with member(shared_url) as here, member(shared_url) as there:
        heard: list[str] = []
        with (
            here.duties.hearing("webhooks", lambda: heard.append("here")),
            there.duties.hearing("webhooks", lambda: heard.append("there")),
            there.duties.hearing("keys", lambda: heard.append("keys")),
        ):
            await here.duties.announce("webhooks")
            await until(lambda: sorted(heard) == ["here", "there"])
            heard.clear()
            end_sessions(shared_url, doing="LISTEN %")
            # What was announced meanwhile may have been missed: all are told.
            await until(lambda: sorted(heard) == ["here", "keys", "there"])
