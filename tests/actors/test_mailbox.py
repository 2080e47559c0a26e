"""A mailbox is bounded, first in first out, and a cancelled call has done nothing."""

import pytest
import trio
import trio.testing

from actors.mailbox import Mailbox, MailboxStatistics


async def test_everything_is_taken_at_once_in_order(autojump_clock):
    box: Mailbox[int] = Mailbox(10)
    for number in range(4):
        await box.put(number)
    assert box.statistics() == MailboxStatistics(depth=4, capacity=10, senders_waiting=0)
    assert await box.take_all() == [0, 1, 2, 3]
    assert box.statistics().depth == 0


async def test_a_receiver_waits_for_mail(autojump_clock):
    box: Mailbox[str] = Mailbox(1)
    async with trio.open_nursery() as nursery:

        async def later() -> None:
            await trio.sleep(5)
            await box.put("mail")

        nursery.start_soon(later)
        assert await box.take_all() == ["mail"]
    assert trio.current_time() == 5


async def test_a_full_mailbox_makes_its_senders_wait_and_drops_nothing(autojump_clock):
    box: Mailbox[int] = Mailbox(2)
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            for number in range(7):
                await box.put(number)

        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        assert box.statistics() == MailboxStatistics(depth=2, capacity=2, senders_waiting=1)
        taken: list[int] = []
        while len(taken) < 7:
            batch = await box.take_all()
            assert 1 <= len(batch) <= 2
            taken += batch
            await trio.testing.wait_all_tasks_blocked()
    assert taken == list(range(7))


async def test_many_senders_never_exceed_the_capacity(autojump_clock):
    box: Mailbox[int] = Mailbox(3)
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(box.put, number)
        taken: list[int] = []
        while len(taken) < 20:
            await trio.testing.wait_all_tasks_blocked()
            assert box.statistics().depth <= 3
            taken += await box.take_all()
    assert sorted(taken) == list(range(20))


async def test_a_cancelled_put_has_put_nothing(autojump_clock):
    box: Mailbox[str] = Mailbox(1)
    await box.put("first")
    with trio.move_on_after(1) as scope:
        await box.put("second")
    assert scope.cancelled_caught
    assert await box.take_all() == ["first"]
    with trio.CancelScope() as scope:
        scope.cancel()
        await box.put("third")
    assert scope.cancelled_caught
    assert box.statistics() == MailboxStatistics(depth=0, capacity=1, senders_waiting=0)


async def test_a_cancelled_take_has_taken_nothing(autojump_clock):
    box: Mailbox[str] = Mailbox(1)
    with trio.move_on_after(1) as scope:
        await box.take_all()
    assert scope.cancelled_caught
    await box.put("kept")
    with trio.CancelScope() as scope:
        scope.cancel()
        await box.take_all()
    assert scope.cancelled_caught
    assert await box.take_all() == ["kept"]


async def test_a_cancellation_that_comes_with_the_mail_loses_neither(autojump_clock):
    """Either the call returns the mail, or the mail is still there."""
    for cancel_first in (True, False):
        box: Mailbox[str] = Mailbox(1)
        taken: list[str] = []
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def take(scope=scope, box=box, taken=taken) -> None:
                with scope:
                    taken += await box.take_all()

            nursery.start_soon(take)
            await trio.testing.wait_all_tasks_blocked()
            if cancel_first:
                scope.cancel()
                await box.put("mail")
            else:
                await box.put("mail")
                scope.cancel()
        if not taken:
            taken = await box.take_all()
        assert taken == ["mail"]


async def test_put_and_take_are_checkpoints(autojump_clock):
    box: Mailbox[int] = Mailbox(1)
    with trio.testing.assert_checkpoints():
        await box.put(1)
    with trio.testing.assert_checkpoints():
        await box.take_all()


def test_a_mailbox_without_room_is_a_bug():
    with pytest.raises(AssertionError, match="at least one"):
        Mailbox(0)
