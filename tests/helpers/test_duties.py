"""The in-memory duties keep the promises of `actors.duties`; times are virtual."""

from __future__ import annotations

import pytest
import trio

from actors.duties import ANSWER_S, FRESH_S, DutyLostError
from actors.ports import PersistentError, TransientError
from tests.helpers.duties import DutyBoard


async def shout(kind: str, body: bytes) -> bytes:
    await trio.lowlevel.checkpoint()
    return kind.encode() + b":" + body.upper()


async def test_one_holds_a_duty_and_the_next_takes_over_when_it_dies(autojump_clock, nursery):
    board = DutyBoard()
    first, second = board.member(), board.member()
    await first.take("watch:BTC", holder="first")
    taken = trio.Event()

    async def stand_by() -> None:
        await second.take("watch:BTC", holder="second")
        taken.set()

    nursery.start_soon(stand_by)
    await trio.testing.wait_all_tasks_blocked()
    assert second.statistics().awaited == ("watch:BTC",)
    assert not taken.is_set()
    first.die()
    await taken.wait()
    assert first.statistics().held == ()
    assert second.statistics().held == ("watch:BTC",)
    with pytest.raises(DutyLostError):
        await first.ask("watch:BTC", "create", b"")


async def test_a_post_is_answered_by_the_holder(autojump_clock, nursery):
    board = DutyBoard()
    asker, holder = board.member(), board.member()
    await holder.take("deliver", holder="h")
    nursery.start_soon(holder.serve, "deliver", shout)
    assert await asker.ask("deliver", "test", b"abc") == b"test:ABC"
    assert board.posts == []
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("error", [TransientError("full"), PersistentError("wrong network")])
async def test_failures_of_the_world_reach_the_asker(error, autojump_clock, nursery):
    board = DutyBoard()
    asker, holder = board.member(), board.member()
    await holder.take("deliver", holder="h")

    async def fail(_kind: str, _body: bytes) -> bytes:
        raise error

    nursery.start_soon(holder.serve, "deliver", fail)
    with pytest.raises(type(error), match=str(error)):
        await asker.ask("deliver", "test", b"")
    nursery.cancel_scope.cancel()


async def test_what_nobody_begins_with_is_withdrawn(autojump_clock):
    board = DutyBoard()
    asker = board.member()
    started = trio.current_time()
    with pytest.raises(TransientError, match="nothing was done"):
        await asker.ask("deliver", "test", b"")
    assert trio.current_time() - started == ANSWER_S
    assert board.posts == []


async def test_what_a_dead_holder_began_is_done_again_by_the_next(autojump_clock, nursery):
    board = DutyBoard()
    asker, first, second = board.member(), board.member(), board.member()
    await first.take("deliver", holder="first")

    async def die(_kind: str, _body: bytes) -> bytes:
        first.die()
        return b"never heard"

    async def serve(member, answer) -> None:
        try:
            await member.serve("deliver", answer)
        except* DutyLostError:
            await second.take("deliver", holder="second")
            await second.serve("deliver", shout)

    nursery.start_soon(serve, first, die)
    assert await asker.ask("deliver", "test", b"abc") == b"test:ABC"
    nursery.cancel_scope.cancel()


async def test_a_standing_is_confirmed_while_its_holder_lives(autojump_clock, nursery):
    board = DutyBoard()
    holder, other = board.member(), board.member()
    await holder.take("watch:BTC", holder="h")
    assert other.standing("watch:BTC") is None
    await holder.report("watch:BTC", b"ready")
    scope = trio.CancelScope()

    async def run() -> None:
        with scope:
            await holder.run()

    nursery.start_soon(run)
    await trio.sleep(3 * FRESH_S)
    found = other.standing("watch:BTC")
    assert found is not None
    assert (found.holder, found.body) == ("h", b"ready")
    assert found.age_s < FRESH_S
    scope.cancel()
    await trio.sleep(FRESH_S)
    assert other.standing("watch:BTC") is None


async def test_an_announcement_reaches_everybody_who_listens(autojump_clock):
    board = DutyBoard()
    here, there = board.member(), board.member()
    heard: list[str] = []
    with (
        here.hearing("webhooks", lambda: heard.append("here")),
        there.hearing("webhooks", lambda: heard.append("there")),
    ):
        await here.announce("webhooks")
        await here.announce("keys")
    await here.announce("webhooks")
    assert heard == ["here", "there"]
