"""Questions to other processes end with the process that asks, shielded or not."""

import pytest
import trio

from actors.asking import Asking
from actors.ports import TransientError
from tests.helpers.duties import DutyBoard


async def test_who_waits_when_the_process_stops_is_answered_at_once(autojump_clock):
    asking = Asking(DutyBoard().member())
    refused = []

    async def ask() -> None:
        with trio.CancelScope(shield=True), pytest.raises(TransientError, match="was stopped"):
            await asking.ask("deliver", "rest", b"")
        refused.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(ask)
        await trio.sleep(1)
        stopped = trio.current_time()
        asking.close()
        nursery.cancel_scope.cancel()
    assert refused == [stopped] * 2
    with pytest.raises(TransientError, match="was stopped"):
        await asking.ask("deliver", "rest", b"")
    asking.close()


async def test_before_that_it_is_as_without(autojump_clock):
    board = DutyBoard()
    holder, asking = board.member(), Asking(board.member())
    await holder.take("deliver", holder="one")
    await holder.report("deliver", b"standing")
    assert asking.standing("deliver").body == b"standing"

    async def answer(kind: str, body: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        return kind.encode() + body

    async with trio.open_nursery() as nursery:
        nursery.start_soon(holder.serve, "deliver", answer)
        assert await asking.ask("deliver", "echo ", b"this") == b"echo this"
        nursery.cancel_scope.cancel()
    with trio.move_on_after(1) as scope:
        await asking.ask("watch:btc", "create", b"")
    assert scope.cancelled_caught
    with pytest.raises(TransientError, match="nothing was done"):
        await asking.ask("watch:btc", "create", b"")
