"""Scenarios of invoices with a policy, and of cancelled ones."""

from __future__ import annotations

from actors.core.invoice import State
from actors.core.policy import Band, Policy
from tests.helpers.stage import TTL_S, Delivery, Scenario, Stage, end

ACCEPTED_S = 60
LATE = Policy(accept_late_s=ACCEPTED_S)
DEADLINE = "deadline_reached"


async def _late_accepted(stage: Stage) -> None:
    invoice = await stage.invoice(policy=LATE)
    await stage.wait(TTL_S + 5)
    await stage.pay("t", invoice, 100)
    await stage.mine("t", empty=1)


async def _late_accepted_while_the_node_was_down(stage: Stage) -> None:
    """It is read long after the time in which late money counts; its header says when it came."""
    invoice = await stage.invoice(policy=LATE)
    await stage.node_down()
    await stage.wait(TTL_S + 20)
    stage.txs["t"] = stage.node.make(invoice.destination, 100)
    stage.node.mine(stage.txs["t"])
    await stage.wait(ACCEPTED_S + 30)
    await stage.node_up()
    await stage.mine()


async def _late_beyond(stage: Stage) -> None:
    invoice = await stage.invoice(policy=LATE)
    await stage.wait(TTL_S + ACCEPTED_S + 5)
    await stage.pay("t", invoice, 100)
    await stage.mine("t", empty=1)


async def _late_in_part(stage: Stage) -> None:
    invoice = await stage.invoice(policy=LATE)
    await stage.pay("t", invoice, 30)
    await stage.wait(TTL_S + 5)
    await stage.pay("u", invoice, 40)
    await stage.mine("t", "u")
    await stage.wait(ACCEPTED_S + 5)


async def _late_and_bumped(stage: Stage) -> None:
    """A bump of money that was accepted is accepted, whenever it comes."""
    invoice = await stage.invoice(policy=LATE)
    await stage.wait(TTL_S + 5)
    await stage.pay("t", invoice, 100)
    await stage.wait(ACCEPTED_S)
    await stage.pay("u", invoice, 100, bumps="t")
    await stage.mine("u", empty=1)


async def _late_and_robbed(stage: Stage) -> None:
    """Accepted money that goes after its time leaves an invoice that expires."""
    invoice = await stage.invoice(policy=LATE)
    await stage.wait(TTL_S + 5)
    await stage.pay("t", invoice, 100)
    await stage.wait(ACCEPTED_S)
    await stage.steal("t", mined=True)


async def _unlocked_late(stage: Stage) -> None:
    invoice = await stage.invoice(policy=LATE)
    until_ms = stage.it.clock.now_ms() + round(TTL_S + 10) * 1000
    await stage.pay("t", invoice, 100, unlock_ms=until_ms)
    await stage.mine("t", empty=4)
    await stage.wait(TTL_S + 20)


async def _tolerated(stage: Stage) -> None:
    invoice = await stage.invoice(policy=Policy(tolerance_bps=500))
    await stage.pay("t", invoice, 60)
    await stage.pay("u", invoice, 35)
    await stage.mine("t", "u", empty=1)


async def _large(stage: Stage) -> None:
    bands = (Band(100, 3), Band(101, 1))
    invoice = await stage.invoice(policy=Policy(bands=bands), confirmations=1)
    await stage.pay("t", invoice, 100)
    await stage.mine("t", empty=1)


async def _replaceable_in_the_mempool(stage: Stage) -> None:
    invoice = await stage.invoice(policy=Policy(rbf_confirmations=2), confirmations=0)
    await stage.pay("t", invoice, 100, replaceable=True)


async def _replaceable_and_mined(stage: Stage) -> None:
    invoice = await stage.invoice(policy=Policy(rbf_confirmations=2), confirmations=0)
    await stage.pay("t", invoice, 100, replaceable=True)
    await stage.mine("t", empty=1)


async def _replaceable_and_one_block_short(stage: Stage) -> None:
    invoice = await stage.invoice(policy=Policy(rbf_confirmations=2), confirmations=0)
    await stage.pay("t", invoice, 100, replaceable=True)
    await stage.mine("t")


async def _not_replaceable(stage: Stage) -> None:
    invoice = await stage.invoice(policy=Policy(rbf_confirmations=2), confirmations=0)
    await stage.pay("t", invoice, 100)


async def _cancelled_and_paid(stage: Stage) -> None:
    invoice = await stage.invoice(policy=LATE)
    await stage.cancel(invoice)
    await stage.pay("t", invoice, 100)
    await stage.mine("t", empty=1)
    await stage.wait(TTL_S + ACCEPTED_S)


POLICIES = (
    Scenario(
        "late, accepted",
        _late_accepted,
        (end(State.SETTLED, 100, 100, "late", DEADLINE, t=2),),
    ),
    Scenario(
        "late, accepted, while the node was down",
        _late_accepted_while_the_node_was_down,
        (end(State.SETTLED, 100, 100, "late", DEADLINE, t=2),),
    ),
    Scenario(
        "late, beyond what is accepted",
        _late_beyond,
        (end(State.EXPIRED, 0, 100, "late", DEADLINE, t=2),),
    ),
    Scenario(
        "late, accepted, too little",
        _late_in_part,
        (end(State.EXPIRED, 70, 70, "underpaid", "late", DEADLINE, t=1, u=1),),
    ),
    Scenario(
        "late, accepted, bumped",
        _late_and_bumped,
        (end(State.SETTLED, 100, 100, "late", DEADLINE, u=2),),
        # A daemon that only reads blocks has never seen what was bumped.
        not_in=frozenset({Delivery.BLOCKS_ONLY}),
    ),
    Scenario("late, accepted, robbed", _late_and_robbed, (end(State.EXPIRED, 0, 0, DEADLINE),)),
    Scenario(
        "unlocked late, accepted",
        _unlocked_late,
        (end(State.SETTLED, 100, 100, "late", DEADLINE, t=5),),
    ),
    Scenario("tolerated", _tolerated, (end(State.SETTLED, 95, 95, "underpaid", t=2, u=2),)),
    Scenario("large", _large, (end(State.SEEN, 100, 100, t=2),)),
    Scenario(
        "0-conf, replaceable",
        _replaceable_in_the_mempool,
        (end(State.SEEN, 100, 100, t=None),),
    ),
    Scenario(
        "0-conf, replaceable, mined",
        _replaceable_and_mined,
        (end(State.SETTLED, 100, 100, t=2),),
    ),
    Scenario(
        "0-conf, replaceable, one block short",
        _replaceable_and_one_block_short,
        (end(State.SEEN, 100, 100, t=1),),
        # Its reorgs bring one block more.
        not_in=frozenset({Delivery.DEEP_REORG}),
    ),
    Scenario("0-conf, not replaceable", _not_replaceable, (end(State.SETTLED, 100, 100, t=None),)),
    Scenario(
        "cancelled, then paid",
        _cancelled_and_paid,
        (end(State.CANCELLED, 0, 100, "late", t=2),),
    ),
)
