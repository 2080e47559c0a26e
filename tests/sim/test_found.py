"""What simulated histories have found, each as an example of its own."""

from actors.core.invoice import State
from tests.helpers.watched_chain import watched_chain
from tests.sim.history import play


async def test_a_death_in_a_reorg_to_a_lower_branch(autojump_clock):
    """The cursor was saved at the fork, and nobody was told of it: the payments stayed in blocks
    that were no more, until the new branch had grown as high as the old one. (Seed 200420.)
    """
    async with watched_chain() as it:
        before = list(it.node.blocks)
        terms = await it.create(100, confirmations=1)
        it.node.pay(terms.destination, 100)
        it.node.mine_empty(2)
        it.node.mine()
        await it.told()
        assert (await it.invoice(terms)).state is State.SETTLED

        save, high = it.store.save_cursor, it.node.height

        async def save_and_die(cursor):
            await save(cursor)
            if cursor.view.tip.height < high:
                it.crash()

        it.store.save_cursor = save_and_die
        it.node.switch_to(before)
        it.node.mempool.clear()
        it.node.mine_empty()
        await it.stopped()
        it.store.save_cursor = save
        assert it.node.height < high

        await it.start()
        await it.told()
        await it.told()
        await it.told()
        invoice = await it.invoice(terms)
        assert [payment.height for payment in invoice.payments] == [None]
        assert invoice.reversed, "the money is gone from mempool and chain, and nobody said so"


def test_a_lock_that_ends_while_its_payment_is_still_believed_to_be_there():
    """The plain account knew at once that the payment had left the mempool; the daemon waits a
    little, and settles what needs no confirmation. It is told as reversed then. (Seed 207863756.)
    """
    plan = [
        ("user",),
        ("create", 783, 2, 0, 600, 0, None, "rest", "key 1", False),
        ("pay locked for", 2, 948, 8),
        ("pay token", 1, 428),
        ("evict", 2, 648),
    ]
    assert play(plan, seed=207863756).events


def test_a_payment_that_is_mined_while_its_node_has_lost_its_newest_blocks():
    """It was in the mempool no more, and in no block that the node had: the daemon let it go, the
    invoice's time passed, and it came back late. The plain account saw it all along. (Seed
    208378836.)
    """
    plan = [
        ("user",),
        ("create", 401, 0, 100, 25, None, 3, "tally", "key 3", False),
        ("rest",),
        ("rotate", 863),
        ("resume", 615),
        ("evict", 0, 822),
        ("pay token", 1, 39),
        ("return", 0, 786),
        ("pay", 0, 100, 50),
        ("node", 0, "stale", 3),
        ("mine", 0, 17, 2),
    ]
    assert play(plan, seed=208378836).events


def test_a_rival_that_is_told_of_after_what_displaced_it():
    """A payment had replaced it already; its own news came later, and put the payment away. That it
    left was nobody's concern, for it pays nobody. (Seed 219426457.)
    """
    plan = [
        ("user",),
        ("reader", "status", None, ("payment.seen", "payment.included", "invoice.covered"), False),
        ("create", 84, 2, 400000000000, 25, None, None, "goipay", "key 1", False),
        ("create", 999, 0, 2500000000000, 60, None, None, "goipay", "key 2", False),
        ("create", 283, 1, 250, 60, 3, 2, "tally", "key 3", False),
        (
            "together",
            True,
            (
                ("mine", 2, 63, 1),
                ("lie", 2, 242),
                ("bump", 2, 188, 401),
                ("steal", 1, 884),
                ("pay", 0, 962, 100),
            ),
        ),
    ]
    assert play(plan, seed=219426457).events


def test_a_dispute_that_a_block_ended_which_nobody_was_told_of():
    """The contested payment was mined and unmined within a moment, and disputed no more; to the
    daemon a block had come that did not concern it. (Seed 219581436.)
    """
    plan = [
        ("user",),
        ("create", 105, 2, 100, 60, None, 1, "tally", "key 1", False),
        ("together", False, (("pay", 2, 781, 150), ("pay outputs", 1, 903, 2))),
        ("contest", 2, 556),
        (
            "together",
            False,
            (
                ("pay replaceable", 2, 988, 100),
                ("go back", 2, 927),
                ("mine", 2, 63, 0),
                ("mine", 1, 18, 1),
                ("go back", 2, 440),
            ),
        ),
    ]
    assert play(plan, seed=219581436).events


def test_a_cancellation_in_the_moment_in_which_the_time_to_pay_ends():
    """Late money was accepted, so the invoice was pending still, and its deadline had been noticed
    already; the plain account put the cancellation first. (Seed 220169037.)
    """
    plan = [
        ("user",),
        ("create", 777, 2, 100, 25, 3, 0, "tally", "key 1", False),
        ("create", 898, 1, 100, 60, None, 3, "tally", "key 2", False),
        ("create", 815, 1, 0, 1000000, 0, None, "tally", "key 3", False),
        ("rest",),
        ("stop",),
        ("mine", 2, 63, 0),
        ("bump", 2, 409, 494),
        ("cancel", 272),
    ]
    assert play(plan, seed=220169037).events


def test_money_that_replaces_a_token_does_not_take_its_time():
    """A worthless token in time, and the money by the same coin when the price had moved: it was
    believed to be in time. (Seed 220170469.)
    """
    plan = [
        ("user",),
        ("create", 897, 1, 100, 25, 1, 1, "tally", "key 3", False),
        ("rest",),
        (
            "together",
            True,
            (
                ("pay", 0, 238, 100),
                ("reorg", 2, 9, 51, 20),
                ("pay replaceable", 2, 552, 100),
            ),
        ),
        ("pay many", 1, 526, 626),
        (
            "together",
            True,
            (("pay one key", 2, 282, 100), ("contest", 2, 772), ("mine", 2, 63, 3)),
        ),
        ("reorg", 2, 9, 53, 12),
        ("pay outputs", 0, 765, 3),
        ("mend disk",),
        ("pay", 1, 581, 150),
        (
            "together",
            True,
            (
                ("pay many", 2, 203, 98),
                ("finalise", 1, 2),
                ("pay token", 1, 230),
                ("mine theft", 0, 640),
                ("mine", 0, 63, 2),
            ),
        ),
        ("disk", "reads", 1),
        ("pay", 2, 139, 100),
        ("mend disk",),
        ("return", 1, 485),
        ("mine theft", 0, 379),
        ("bump", 1, 44, 555),
    ]
    assert play(plan, seed=220170469).events


def test_a_block_that_takes_one_payment_away_and_brings_another():
    """The deadline had passed; between the two the invoice was not covered, and expired: paid, and
    expired. (Seed 221357799.)
    """
    plan = [
        ("user",),
        ("create", 73, 2, 100, 60, None, None, "tally", "key 1", False),
        ("create", 557, 2, 250, 600, 1, 0, "tally", "key 2", False),
        ("rest",),
        ("node", 2, "refuses", 2),
        ("mine", 2, 63, 1),
        ("mend node", 2),
        ("create", 435, 2, 40, 25, 3, 0, "tally", "key 3", True),
        ("node", 2, "down", 3),
        ("reorg", 2, 1, 9, 61),
        ("mend node", 2),
        ("pay locked", 2, 889, 2),
        ("pay locked for", 2, 345, 5),
        ("node", 2, "dropped", 0),
        ("pay", 2, 972, 150),
        ("cancel", 728),
        ("contest", 2, 278),
        ("reorg", 2, 1, 61, 14),
    ]
    assert play(plan, seed=221357799).events
