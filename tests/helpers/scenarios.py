"""What customers, miners and nodes do to an invoice, and what must come of it.

Each scenario is one script over a `Stage`; the stage decides in what order and how often the daemon
gets to know (see `Delivery`). The end must be the same.
"""

from __future__ import annotations

from actors.core.events import Terms
from actors.core.invoice import State
from tests.helpers.disputed_scenarios import DISPUTED
from tests.helpers.policy_scenarios import POLICIES
from tests.helpers.stage import TTL_S, Delivery, Scenario, Stage, end


async def _exact(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.mine("t", empty=1)


async def _two_partials(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 40)
    await stage.mine("t")
    await stage.pay("u", invoice, 30, 30)
    await stage.mine("u", empty=1)


async def _partial_only(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 40)
    await stage.mine("t")
    await stage.wait(TTL_S)


async def _over(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 150)
    await stage.mine("t", empty=1)


async def _late(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.wait(TTL_S + 5)
    await stage.pay("t", invoice, 100)
    await stage.mine("t", empty=1)


async def _late_long_after(stage: Stage) -> None:
    """The invoice has been let go of when the money comes."""
    invoice = await stage.invoice()
    await stage.wait(TTL_S + 5)
    await stage.mine(empty=10)
    await stage.wait(TTL_S)
    await stage.pay("t", invoice, 100)
    await stage.mine("t")


async def _batch_payout(stage: Stage) -> None:
    one, two = await _two_invoices(stage)
    await stage.pay_both("t", (one, 100), (two, 7), (two, 8))
    await stage.mine("t", empty=1)


async def _two_invoices(stage: Stage) -> tuple[Terms, Terms]:
    one = await stage.it.create(100, ttl_s=TTL_S)
    stage.invoices.append(one)
    return one, await stage.invoice(15)


async def _bumped_to_self(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.pay("u", invoice, 100, bumps="t")
    await stage.pay("v", invoice, 100, bumps="u")
    await stage.mine("v", empty=1)


async def _bumped_after_the_deadline(stage: Stage) -> None:
    """The money was there in time; a higher fee does not make it late."""
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.wait(TTL_S + 2)
    await stage.pay("u", invoice, 100, bumps="t")
    await stage.mine("u", empty=1)


async def _bumped_to_another(stage: Stage) -> None:
    one, two = await _two_invoices(stage)
    await stage.pay("t", one, 100)
    await stage.pay("u", two, 15, bumps="t")
    await stage.mine("u", empty=1)


async def _bumped_away(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.steal("t", mined=False)
    await stage.wait(TTL_S)


async def _bumped_away_and_mined(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.steal("t", mined=False)
    await stage.mine("theft of t")
    await stage.wait(TTL_S)


async def _double_spent_in_a_block(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.steal("t", mined=True)
    await stage.wait(TTL_S)


async def _evicted_and_back(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.evict("t")
    await stage.wait(10)
    await stage.rebroadcast("t")
    await stage.mine("t", empty=1)


async def _evicted_for_good(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.evict("t")
    await stage.wait(TTL_S + 10)


async def _reorganised_into_another_block(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.mine("t")
    await stage.reorg(1)
    await stage.mine("t", empty=1)


async def _reorganised_and_double_spent(stage: Stage) -> None:
    """The coins go elsewhere in the new branch, which the mempool never showed."""
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.mine("t")
    stage.txs["theft of t"] = stage.node.steal(stage.txs["t"])
    await stage.reorg(1, "theft of t")
    await stage.wait(TTL_S)


async def _there_and_back(stage: Stage) -> None:
    """A → B → A, with the payment only in A."""
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    before = list(stage.node.blocks)
    await stage.mine("t")
    branch_a = list(stage.node.blocks)
    stage.node.switch_to(before)
    await stage.mine(empty=2)
    stage.node.switch_to(branch_a)
    await stage.step()
    await stage.mine()


async def _expired_while_the_node_was_down(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.node_down()
    stage.txs["t"] = stage.node.make(invoice.destination, 100)
    stage.node.mine(stage.txs["t"])
    await stage.wait(TTL_S + 30)
    await stage.node_up()
    await stage.mine()


async def _in_the_mempool_while_the_node_was_down(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.node_down()
    stage.txs["t"] = stage.node.make(invoice.destination, 100)
    stage.node.broadcast(stage.txs["t"])
    await stage.wait(TTL_S + 30)
    await stage.node_up()
    await stage.mine("t", empty=1)


async def _unpaid_while_the_node_was_down(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.node_down()
    await stage.wait(TTL_S + 30)
    stage.txs["t"] = stage.node.make(invoice.destination, 100)
    stage.node.mine(stage.txs["t"])
    await stage.node_up()
    await stage.mine()


async def _no_confirmation_needed(stage: Stage) -> None:
    invoice = await stage.invoice(confirmations=0)
    await stage.pay("t", invoice, 100)


async def _any_amount(stage: Stage) -> None:
    invoice = await stage.invoice(0)
    await stage.pay("t", invoice, 1)
    await stage.mine("t", empty=1)


async def _settled_then_reversed(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.mine("t", empty=1)
    await stage.it.told()
    stage.txs["theft of t"] = stage.node.steal(stage.txs["t"])
    await stage.reorg(2, "theft of t")


async def _reversed_then_restored(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.mine("t", empty=1)
    branch_a = list(stage.node.blocks)
    await stage.it.told()
    stage.txs["theft of t"] = stage.node.steal(stage.txs["t"])
    await stage.reorg(2, "theft of t")
    await stage.it.told()
    stage.node.switch_to(branch_a)
    await stage.step()
    await stage.mine()


SCENARIOS = (
    Scenario("exact", _exact, (end(State.SETTLED, 100, 100, t=2),)),
    Scenario("two partials", _two_partials, (end(State.SETTLED, 100, 100, t=3, u=2),)),
    Scenario(
        "partial only",
        _partial_only,
        (end(State.EXPIRED, 40, 40, "underpaid", "deadline_reached", t=1),),
    ),
    Scenario("over", _over, (end(State.SETTLED, 150, 150, "overpaid", t=2),)),
    Scenario("late", _late, (end(State.EXPIRED, 0, 100, "late", "deadline_reached", t=2),)),
    Scenario(
        "late, long after",
        _late_long_after,
        (end(State.EXPIRED, 0, 100, "late", "deadline_reached", t=1),),
    ),
    Scenario(
        "batch payout",
        _batch_payout,
        (end(State.SETTLED, 100, 100, t=2), end(State.SETTLED, 15, 15, t=2)),
    ),
    Scenario("bumped to self", _bumped_to_self, (end(State.SETTLED, 100, 100, v=2),)),
    Scenario(
        "bumped after the deadline",
        _bumped_after_the_deadline,
        (end(State.SETTLED, 100, 100, "deadline_reached", u=2),),
        # A daemon that only reads blocks has never seen what was bumped.
        not_in=frozenset({Delivery.BLOCKS_ONLY}),
    ),
    Scenario(
        "bumped to another",
        _bumped_to_another,
        (end(State.PENDING, 0, 0), end(State.SETTLED, 15, 15, u=2)),
    ),
    Scenario("bumped away", _bumped_away, (end(State.EXPIRED, 0, 0, "deadline_reached"),)),
    Scenario(
        "bumped away and mined",
        _bumped_away_and_mined,
        (end(State.EXPIRED, 0, 0, "deadline_reached"),),
    ),
    Scenario(
        "double-spent in a block",
        _double_spent_in_a_block,
        (end(State.EXPIRED, 0, 0, "deadline_reached"),),
    ),
    Scenario("evicted and back", _evicted_and_back, (end(State.SETTLED, 100, 100, t=2),)),
    Scenario(
        "evicted for good", _evicted_for_good, (end(State.EXPIRED, 0, 0, "deadline_reached"),)
    ),
    Scenario(
        "reorganised into another block",
        _reorganised_into_another_block,
        (end(State.SETTLED, 100, 100, t=2),),
    ),
    Scenario(
        "reorganised and double-spent",
        _reorganised_and_double_spent,
        (end(State.EXPIRED, 0, 0, "deadline_reached"),),
    ),
    Scenario("there and back", _there_and_back, (end(State.SETTLED, 100, 100, t=2),)),
    Scenario(
        "expired while the node was down, mined in time",
        _expired_while_the_node_was_down,
        (end(State.SETTLED, 100, 100, "deadline_reached", t=2),),
    ),
    Scenario(
        "expired while the node was down, in its mempool in time",
        _in_the_mempool_while_the_node_was_down,
        (end(State.SETTLED, 100, 100, "deadline_reached", t=2),),
    ),
    Scenario(
        "expired while the node was down, paid late",
        _unpaid_while_the_node_was_down,
        (end(State.EXPIRED, 0, 100, "late", "deadline_reached", t=2),),
    ),
    Scenario("0-conf", _no_confirmation_needed, (end(State.SETTLED, 100, 100, t=None),)),
    Scenario("any amount", _any_amount, (end(State.SETTLED, 1, 1, t=2),)),
    Scenario(
        "settled, then reversed",
        _settled_then_reversed,
        (end(State.SETTLED, 0, 0, "reversed"),),
    ),
    Scenario(
        "reversed, then restored", _reversed_then_restored, (end(State.SETTLED, 100, 100, t=3),)
    ),
    *DISPUTED,
    *POLICIES,
)
