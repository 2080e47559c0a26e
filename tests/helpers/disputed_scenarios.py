"""Scenarios of money that is there and does not count: locked, doubled, unproved, contested."""

from __future__ import annotations

from actors.core.invoice import State
from tests.helpers.stage import TTL_S, Delivery, Scenario, Stage, end

KEY = b"one-time key"


async def _unlocked_by_a_block(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100, unlock_height=stage.node.height + 7)
    await stage.mine("t", empty=4)
    await stage.mine(empty=2)


async def _unlocked_after_the_deadline(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100, unlock_height=stage.node.height + 8)
    await stage.mine("t", empty=2)
    await stage.wait(TTL_S + 2)
    await stage.mine(empty=5)


async def _unlocked_by_time(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100, unlock_ms=stage.it.clock.now_ms() + 40_000)
    await stage.mine("t", empty=4)
    await stage.wait(40)


async def _unlocked_by_time_after_the_deadline(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100, unlock_ms=stage.it.clock.now_ms() + 70_000)
    await stage.mine("t", empty=4)
    await stage.wait(80)


async def _unlocked_while_the_node_was_down(stage: Stage) -> None:
    """The deadline passes too, but after the lock ended."""
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100, unlock_height=stage.node.height + 7)
    await stage.mine("t", empty=2)
    await stage.node_down()
    await stage.mine(empty=4)
    await stage.wait(TTL_S)
    await stage.node_up()


async def _unlocked_too_late_while_the_node_was_down(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100, unlock_height=stage.node.height + 7)
    await stage.mine("t", empty=2)
    await stage.node_down()
    await stage.wait(TTL_S + 2)
    await stage.mine(empty=4)
    await stage.node_up()


async def _locked_and_reorganised(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100, unlock_height=stage.node.height + 5)
    await stage.mine("t", empty=4)
    await stage.reorg(5)
    await stage.mine("t", empty=1)


async def _locked_money_bumped(stage: Stage) -> None:
    """A bump may lift the lock."""
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100, unlock_height=10**6)
    await stage.pay("u", invoice, 100, bumps="t")
    await stage.mine("u", empty=1)


async def _one_key_twice(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 60, one_time_key=KEY)
    await stage.mine("t")
    await stage.pay("u", invoice, 60, one_time_key=KEY)
    await stage.mine("u", empty=1)
    await stage.wait(TTL_S)


async def _one_key_twice_in_swapped_order(stage: Stage) -> None:
    invoice = await stage.invoice(60)
    await stage.pay("t", invoice, 60, one_time_key=KEY)
    await stage.mine("t")
    await stage.pay("u", invoice, 60, one_time_key=KEY)
    await stage.mine("u")
    await stage.reorg(2, "u")
    await stage.mine("t", empty=1)


async def _one_key_twice_and_the_first_goes(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 40, one_time_key=KEY)
    await stage.pay("u", invoice, 100, one_time_key=KEY)
    await stage.steal("t", mined=True)
    await stage.mine("u", empty=1)


async def _a_lie(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.lie("t", invoice)
    await stage.mine("t")
    await stage.reorg(1)
    await stage.mine("t")


async def _contested_and_mined(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.contest("t")
    await stage.mine("t", empty=1)


async def _contested_and_lost(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.contest("t")
    await stage.steal("t", mined=True)
    await stage.wait(TTL_S)


async def _contested_without_confirmations(stage: Stage) -> None:
    invoice = await stage.invoice(confirmations=0)
    await stage.pay("t", invoice, 100)
    await stage.contest("t")


async def _contested_without_confirmations_and_mined(stage: Stage) -> None:
    invoice = await stage.invoice(confirmations=0)
    await stage.pay("t", invoice, 100)
    await stage.contest("t")
    await stage.mine("t")


NEVER_UNDISPUTED = frozenset({Delivery.BLOCKS_ONLY, Delivery.BURST})
"""Who looks when there is a rival already has never taken the payment for one."""

DISPUTED = (
    Scenario("unlocked by a block", _unlocked_by_a_block, (end(State.SETTLED, 100, 100, t=7),)),
    Scenario(
        "unlocked after the deadline",
        _unlocked_after_the_deadline,
        (end(State.EXPIRED, 0, 100, "late", "deadline_reached", t=8),),
    ),
    Scenario("unlocked by time", _unlocked_by_time, (end(State.SETTLED, 100, 100, t=5),)),
    Scenario(
        "unlocked by time after the deadline",
        _unlocked_by_time_after_the_deadline,
        (end(State.EXPIRED, 0, 100, "late", "deadline_reached", t=5),),
    ),
    Scenario(
        "unlocked while the node was down",
        _unlocked_while_the_node_was_down,
        (end(State.SETTLED, 100, 100, t=7),),
    ),
    Scenario(
        "unlocked too late while the node was down",
        _unlocked_too_late_while_the_node_was_down,
        (end(State.EXPIRED, 0, 100, "late", "deadline_reached", t=7),),
    ),
    Scenario(
        "locked and reorganised", _locked_and_reorganised, (end(State.SETTLED, 100, 100, t=2),)
    ),
    Scenario("locked money bumped", _locked_money_bumped, (end(State.SETTLED, 100, 100, u=2),)),
    Scenario(
        "one key twice",
        _one_key_twice,
        (end(State.EXPIRED, 60, 60, "underpaid", "deadline_reached", t=3, u=2),),
    ),
    Scenario(
        "one key twice, in swapped order",
        _one_key_twice_in_swapped_order,
        (end(State.SETTLED, 60, 60, t=2, u=5),),
    ),
    Scenario(
        "one key twice, and the first goes",
        _one_key_twice_and_the_first_goes,
        (end(State.SETTLED, 100, 100, u=2),),
    ),
    Scenario("a lie", _a_lie, (end(State.PENDING, 0, 0, "refused"),)),
    Scenario("contested and mined", _contested_and_mined, (end(State.SETTLED, 100, 100, t=2),)),
    Scenario(
        "contested and lost", _contested_and_lost, (end(State.EXPIRED, 0, 0, "deadline_reached"),)
    ),
    Scenario(
        "contested without confirmations",
        _contested_without_confirmations,
        (end(State.SETTLED, 0, 0, "reversed"),),
        not_in=NEVER_UNDISPUTED,
    ),
    Scenario(
        "contested without confirmations and mined",
        _contested_without_confirmations_and_mined,
        (end(State.SETTLED, 100, 100, t=1),),
    ),
)
