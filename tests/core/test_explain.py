from __future__ import annotations

from dataclasses import replace

import pytest

from actors.chain_supervisor import ChainState
from actors.core.assets import Asset, Catalogue, Chain
from actors.core.chain_events import OutPoint, RefusedOutput, Removal
from actors.core.explain import (
    PAYMENTS_EXPLAINED,
    ChainSituation,
    Reason,
    explain,
)
from actors.core.inputs import (
    CancelAsked,
    ChainShortened,
    HeightFinal,
    OutputsRefused,
    TimeReached,
    TipReached,
    TxRemoved,
)
from actors.core.policy import Policy
from actors.core.words import duration, utc
from tests.helpers.invoices import (
    CREATED_MS,
    DESTINATION,
    EXPIRES_MS,
    History,
    block,
    included,
    seen,
    txid,
)

CATALOGUE = Catalogue(
    chains=[
        Chain("btc", "Bitcoin", "bitcoin", "BTC", 600.0, 3),
        Chain("eth", "Ethereum", "evm", "ETH", 12.0, 12),
        Chain("xmr", "Monero", "monero", "XMR", 120.0, 2, unlock_blocks=10),
    ],
    assets=[
        Asset("BTC", "btc", "BTC", "Bitcoin", 8),
        Asset("ETH", "eth", "ETH", "Ether", 18),
        Asset("XMR", "xmr", "XMR", "Monero", 8),
        Asset("USDT_ERC20", "eth", "USDT", "Tether", 6, contract=b"\x01" * 20),
    ],
)
CURRENT = ChainSituation("current", None, 10, 2**60)
IN_TIME = CREATED_MS + 60_000
TOO_LATE = EXPIRES_MS + 180_000
REQUIRED = 50_000_000


def told(
    story: History,
    *,
    now_ms: int = IN_TIME,
    situation: ChainSituation = CURRENT,
    catalogue: Catalogue = CATALOGUE,
) -> dict[str, str]:
    """Code → text, in order; the history is given along."""
    reasons = explain(
        story.invoice,
        now_ms=now_ms,
        catalogue=catalogue,
        situation=situation,
        history=story.events,
    )
    assert reasons
    assert all(isinstance(reason, Reason) for reason in reasons)
    return {reason.code: reason.text for reason in reasons}


def lost(name: str, reason: Removal, by: str | None = None) -> TxRemoved:
    return TxRemoved(txid(name), reason, txid(by) if by else None, IN_TIME)


def test_nothing_received():
    assert told(History()) == {
        "nothing_received": "No payment to bcrt1qexample has been seen since 2023-11-14T22:13:20Z;"
        " expires in 59 min, at 2023-11-14T23:13:20Z."
    }


def test_nothing_received_with_the_comment_that_was_asked_for():
    text = told(History(memo="100000387"))["nothing_received"]
    assert text.startswith("No payment to bcrt1qexample with the comment 100000387 has been seen")


def test_underpaid():
    story = History()
    story.tell(included("a", 30_000_000, into=block(10), at_ms=IN_TIME))
    assert told(story) == {
        "underpaid": "0.3 of 0.5 BTC received in time, 0.2 BTC to go; expires in 59 min,"
        " at 2023-11-14T23:13:20Z."
    }


def test_waiting_for_confirmations():
    story = History(confirmations=3)
    story.tell(included("a", REQUIRED, into=block(10), at_ms=IN_TIME))
    assert told(story) == {
        "waiting_confirmations": "The money is in a block: 1 of 3 confirmations; the invoice"
        " settles at block 12, 2 blocks from now, about 20 min."
    }
    unknown_tip = replace(CURRENT, tip_height=None)
    assert told(story, situation=unknown_tip) == {
        "waiting_confirmations": "The money is in a block: the invoice settles at block 12."
    }
    stale_tip = replace(CURRENT, tip_height=5)
    assert "0 of 3 confirmations" in told(story, situation=stale_tip)["waiting_confirmations"]
    reached = replace(CURRENT, tip_height=12)
    assert told(story, situation=reached)["waiting_confirmations"].endswith("settles at block 12.")


def test_waiting_for_the_nodes_word():
    story = History(finality="finalized")
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME))
    assert told(story)["unconfirmed"].endswith("it needs a finalized block.")
    story.tell(included("a", REQUIRED, into=block(10), at_ms=IN_TIME))
    assert told(story) == {
        "waiting_finality": "The money is in a block: the invoice settles when the node calls"
        " block 10 finalized."
    }
    story.tell(HeightFinal(10, IN_TIME))
    assert told(story)["settled"].endswith("with a finalized block.")


def test_unconfirmed():
    story = History(confirmations=1)
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME))
    assert told(story) == {
        "unconfirmed": f"0.5 BTC in transaction {txid('a').hex()} is in the mempool since"
        " 2023-11-14T22:14:20Z, not in a block yet; it needs 1 confirmation."
    }


def test_a_payment_without_need_of_confirmations_is_plain():
    story = History(confirmations=0)
    story.tell(seen("a", 1, at_ms=IN_TIME))
    assert list(told(story)) == ["underpaid"]
    story.tell(seen("b", REQUIRED - 1, at_ms=IN_TIME))
    assert told(story) == {
        "settled": "Paid: settled at 2023-11-14T22:14:20Z without waiting for a block."
    }


def test_disconnected_is_told_from_unconfirmed():
    story = History()
    story.tell(included("a", REQUIRED, into=block(10), at_ms=IN_TIME))
    story.tell(ChainShortened(9, IN_TIME))
    assert told(story) == {
        "disconnected": f"0.5 BTC in transaction {txid('a').hex()} was in block 10"
        f" ({block(10).hash.hex()}), which is no longer part of the chain; it waits for another"
        " block, then it needs 3 confirmations."
    }
    story.tell_all(lost("a", Removal.EVICTED), seen("a", REQUIRED, at_ms=IN_TIME))
    assert list(told(story)) == ["unconfirmed"]


@pytest.mark.parametrize(
    ("reason", "by", "words"),
    [
        (Removal.REPLACED, "b", f"replaced by another transaction {txid('b').hex()} that spends"),
        (Removal.DOUBLE_SPENT, "b", f"were spent in a block by another {txid('b').hex()}."),
        (Removal.DOUBLE_SPENT, None, "were spent in a block by another."),
        (Removal.EVICTED, None, "dropped by the node's mempool"),
    ],
)
def test_money_that_went_away(reason, by, words):
    story = History()
    story.tell_all(seen("a", REQUIRED, at_ms=IN_TIME), lost("a", reason, by))
    reasons = told(story)
    assert list(reasons) == ["nothing_received", reason.value]
    assert reasons["nothing_received"].startswith("No payment to bcrt1qexample is there any more;")
    assert words in reasons[reason.value]


def test_late_money():
    story = History()
    story.tell(TimeReached(EXPIRES_MS))
    story.tell(seen("a", REQUIRED, at_ms=TOO_LATE))
    assert told(story, now_ms=TOO_LATE) == {
        "expired": "Expired: at the deadline, 2023-11-14T23:13:20Z, no money had come in time. The"
        " address stays watched, but money that comes now is recorded, not credited.",
        "late_payment": f"0.5 BTC in transaction {txid('a').hex()} arrived 3 min after the"
        " deadline: recorded, not credited.",
    }


def test_late_money_alone_is_not_in_time():
    story = History()
    story.tell(seen("a", REQUIRED, at_ms=TOO_LATE))
    reasons = told(story, now_ms=TOO_LATE)
    assert reasons["underpaid"].startswith("0 of 0.5 BTC received in time, 0.5 BTC to go;")
    assert reasons["underpaid"].endswith("the deadline was 2023-11-14T23:13:20Z.")


def test_money_that_comes_back_too_late():
    story = History()
    story.tell_all(
        seen("a", REQUIRED, at_ms=IN_TIME),
        lost("a", Removal.EVICTED),
        TimeReached(EXPIRES_MS),
        seen("a", REQUIRED, at_ms=TOO_LATE),
    )
    assert "came back after the invoice had expired" in told(story)["late_payment"]


def test_an_expired_part_payment():
    story = History()
    story.tell_all(
        included("a", 30_000_000, into=block(10), at_ms=IN_TIME), TimeReached(EXPIRES_MS)
    )
    assert "only 0.3 of 0.5 BTC had come in time" in told(story)["expired"]


def test_money_of_another_asset():
    story = History()
    story.tell(seen("a", 5_000_000, at_ms=IN_TIME, asset="USDT_ERC20"))
    reasons = told(story)
    assert list(reasons) == ["nothing_received", "wrong_asset"]
    assert reasons["wrong_asset"] == (
        f"5 USDT in transaction {txid('a').hex()}: the invoice asks for BTC; recorded, not"
        " credited. Settle it with the payer by hand."
    )


def test_assets_that_the_configuration_has_dropped_are_told_in_base_units():
    story = History()
    story.tell(included("a", REQUIRED, into=block(10), at_ms=IN_TIME))
    story.tell(seen("b", 7, at_ms=IN_TIME, asset="GONE"))
    bare = Catalogue(chains=[], assets=[])
    reasons = told(story, catalogue=bare, situation=ChainSituation("disabled", None, None, None))
    assert reasons["chain_disabled"] == (
        "btc is not switched on in the configuration. Until then nothing is known."
    )
    assert (
        reasons["waiting_confirmations"]
        == "The money is in a block: the invoice settles at block 12."
    )
    assert reasons["wrong_asset"].startswith("7 base units of GONE in transaction")
    story = History()
    story.tell(seen("a", 7, at_ms=IN_TIME))
    assert told(story, catalogue=bare)["underpaid"].startswith("7 of 50000000 base units of BTC")


def test_too_much():
    story = History(confirmations=1)
    story.tell(included("a", REQUIRED + 10_000_000, into=block(10), at_ms=IN_TIME))
    assert told(story) == {
        "settled": "Paid: settled at 2023-11-14T22:14:20Z with 1 confirmation.",
        "overpaid": "0.6 of 0.5 BTC received, 0.1 BTC too much. Nothing is sent back by itself.",
    }


def test_the_alarm_comes_first():
    story = History(confirmations=1)
    story.tell_all(
        included("a", REQUIRED, into=block(10), at_ms=IN_TIME),
        ChainShortened(9, IN_TIME),
        lost("a", Removal.DOUBLE_SPENT, "thief"),
    )
    reasons = told(story)
    assert list(reasons) == ["reversed", "settled", "double_spent"]
    assert "0 of 0.5 BTC is left" in reasons["reversed"]


def test_an_open_amount_has_nothing_to_go():
    story = History(required_base=0, confirmations=1)
    story.tell_all(
        included("a", 7, into=block(10), at_ms=IN_TIME),
        ChainShortened(9, IN_TIME),
        lost("a", Removal.EVICTED),
    )
    assert "0 BTC is left" in told(story)["reversed"]


def test_a_deadline_that_protects():
    story = History()
    story.tell_all(seen("a", REQUIRED, at_ms=IN_TIME), TimeReached(EXPIRES_MS))
    reasons = told(story, now_ms=TOO_LATE)
    assert list(reasons) == ["deadline_protected", "unconfirmed"]
    assert "the money came in time" in reasons["deadline_protected"]


@pytest.mark.parametrize(
    ("as_of_ms", "words"),
    [(None, "not at all yet"), (EXPIRES_MS - 1000, "only up to 2023-11-14T23:13:19Z")],
)
def test_a_deadline_that_is_held_until_the_node_is_read(as_of_ms, words):
    situation = ChainSituation("catching_up", "block 5 of 90", 5, as_of_ms)
    reasons = told(History(), now_ms=TOO_LATE, situation=situation)
    assert list(reasons) == ["chain_behind", "nothing_received", "deadline_held"]
    assert f"the node has been read {words}:" in reasons["deadline_held"]


def test_a_deadline_about_to_be_recorded_is_not_held():
    assert list(told(History(), now_ms=TOO_LATE)) == ["nothing_received"]


@pytest.mark.parametrize(
    ("state", "code", "words"),
    [
        ("starting", "chain_starting", "The Bitcoin node has not been read yet: why. Until then"),
        ("catching_up", "chain_behind", "Bitcoin is not read up to its tip yet: why."),
        ("unreachable", "chain_unreachable", "The Bitcoin node cannot be reached: why."),
        ("refused", "chain_refused", "until a person mends its node: why."),
        ("crashed", "chain_crashed", "by a fault of this program: why."),
        ("disabled", "chain_disabled", "is not switched on in the configuration: why."),
    ],
)
def test_a_chain_that_is_not_current_comes_first(state, code, words):
    situation = ChainSituation(state, "why", 10, IN_TIME)
    reasons = told(History(), situation=situation)
    assert list(reasons) == [code, "nothing_received"]
    assert words in reasons[code]
    assert reasons[code].endswith("Until then payments are known up to 2023-11-14T22:14:20Z.")


def test_a_closed_invoice_does_not_wait_for_its_chain():
    story = History(confirmations=1)
    story.tell(included("a", REQUIRED, into=block(10), at_ms=IN_TIME))
    situation = ChainSituation("unreachable", "refused", 10, IN_TIME)
    assert list(told(story, situation=situation)) == ["settled"]


def test_there_is_a_word_for_every_state_of_a_chain():

    for state in ChainState:
        assert told(History(), situation=ChainSituation(state.value, None, None, None))


def test_money_that_is_locked_until_a_height():
    story = History(confirmations=1)
    story.tell(included("a", REQUIRED, into=block(10), at_ms=IN_TIME, unlock_height=16))
    assert told(story) == {
        "underpaid": "0 of 0.5 BTC received in time, 0.5 BTC to go; expires in 59 min, at"
        " 2023-11-14T23:13:20Z.",
        "locked": f"0.5 BTC in transaction {txid('a').hex()} is locked by its sender and cannot be"
        " moved until the chain is at block 16, 6 blocks from now, about 1 h; it counts from then"
        " on, if that is not after the deadline.",
    }
    story.tell(TimeReached(EXPIRES_MS))
    reasons = told(story, situation=replace(CURRENT, tip_height=None))
    assert list(reasons) == ["expired", "locked"]
    assert reasons["locked"].endswith(
        "until the chain is at block 16; it is recorded, not credited."
    )
    story.tell(TipReached(16, TOO_LATE))
    reasons = told(story)
    assert list(reasons) == ["expired", "late_payment"]
    assert "was locked by its sender until after the deadline" in reasons["late_payment"]


@pytest.mark.parametrize(
    ("unlock_ms", "words"),
    [
        (EXPIRES_MS, "2023-11-14T23:13:20Z; it counts from then on, if that is not after"),
        (EXPIRES_MS + 1000, "2023-11-14T23:13:21Z; it is recorded, not credited."),
    ],
)
def test_money_that_is_locked_until_an_instant(unlock_ms, words):
    story = History()
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME, unlock_ms=unlock_ms))
    assert words in told(story)["locked"]


def test_money_unlocked_in_time_that_came_back_too_late():
    story = History()
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME, unlock_height=16))
    story.tell_all(TipReached(16, IN_TIME), lost("a", Removal.EVICTED), TimeReached(EXPIRES_MS))
    story.tell(seen("a", REQUIRED, at_ms=TOO_LATE))
    assert "came back after the invoice had expired" in told(story)["late_payment"]


def test_a_second_output_with_the_same_key():
    story = History(confirmations=1)
    story.tell(included("a", REQUIRED, into=block(10), at_ms=IN_TIME, one_time_key=b"P"))
    story.tell(included("b", REQUIRED, into=block(10), at_ms=IN_TIME, one_time_key=b"P"))
    reasons = told(story)
    assert list(reasons) == ["settled", "duplicate_output"]
    assert f"0.5 BTC in transaction {txid('b').hex()} has" in reasons["duplicate_output"]


def refused(name: str, index: int) -> RefusedOutput:
    return RefusedOutput(OutPoint(txid(name), index), DESTINATION, "BTC", "its proof is wrong")


def test_an_output_that_is_refused():
    story = History()
    story.tell(OutputsRefused((refused("a", 1),), IN_TIME))
    reasons = told(story)
    assert list(reasons) == ["nothing_received", "refused_output"]
    assert reasons["refused_output"] == (
        f"ALARM: output 1 of transaction {txid('a').hex()} is no payment: its proof is wrong. It"
        " counts for nothing; do not deliver for it, and tell the payer."
    )
    story.tell(OutputsRefused((refused("b", 0), refused("b", 1)), IN_TIME))
    assert "(and 2 more such outputs)" in told(story)["refused_output"]


def test_a_contested_payment():
    story = History(confirmations=0)
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME))
    story.tell(lost("a", Removal.CONTESTED))
    reasons = told(story)
    assert list(reasons) == ["reversed", "settled", "contested"]
    assert "saw another transaction that spends the same coins" in reasons["contested"]


def test_confirmed_money_that_cannot_be_moved_yet():
    story = History(confirmations=2, chain="xmr", asset="XMR")
    story.tell(included("a", REQUIRED, into=block(10), at_ms=IN_TIME, asset="XMR"))
    assert list(told(story)) == ["waiting_confirmations"], "not confirmed yet"
    story.tell(TipReached(11, IN_TIME))
    for name in ("b", "c"):
        again = {"asset": "XMR", "one_time_key": b"P"}
        story.tell(included(name, 1, into=block(11), at_ms=IN_TIME, **again))
    locked = {"asset": "XMR", "unlock_height": 99}
    story.tell(included("d", 1, into=block(9), at_ms=IN_TIME, **locked))
    story.tell(included("e", 1, into=block(9), at_ms=IN_TIME))
    now = replace(CURRENT, tip_height=12)
    assert told(story, situation=now)["not_spendable"] == (
        "0.50000001 XMR is confirmed, but Monero lets nobody spend what is not 10 blocks deep: it"
        " can be moved when the chain is at block 20, 8 blocks from now, about 16 min. The invoice"
        " does not wait for it."
    )
    for tip_height in (None, 20):
        reasons = told(story, situation=replace(CURRENT, tip_height=tip_height))
        assert "not_spendable" not in reasons


def test_endless_payments_are_not_all_explained():
    story = History(required_base=10**12)
    for number in range(PAYMENTS_EXPLAINED + 2):
        story.tell(seen(str(number), 1, at_ms=IN_TIME))
    reasons = explain(story.invoice, now_ms=IN_TIME, catalogue=CATALOGUE, situation=CURRENT)
    assert len(reasons) == 1 + PAYMENTS_EXPLAINED + 1
    assert reasons[-1] == Reason("more_payments", "2 older payments not explained here.")


def test_absurd_terms_are_still_words():
    story = History(confirmations=2**32 - 1, expires_at_ms=2**64)
    story.tell(included("a", 1, into=block(10), at_ms=IN_TIME))
    assert "9999-12-31T23:59:59Z" in told(story)["underpaid"]
    story.tell(included("b", REQUIRED, into=block(10), at_ms=IN_TIME))
    assert "years" in told(story)["waiting_confirmations"]
    story.tell(TipReached(11, IN_TIME))


@pytest.mark.parametrize(
    ("span_ms", "words"),
    [
        (0, "1 s"),
        (999, "1 s"),
        (45_000, "45 s"),
        (60_000, "1 min"),
        (179_999, "2 min"),
        (3_600_000, "1 h"),
        (4_800_000, "1 h 20 min"),
        (86_400_000, "1 day"),
        (86_400_000 + 60_000, "1 day"),
        (2 * 86_400_000 + 3 * 3_600_000, "2 days 3 h"),
        (366 * 86_400_000, "1 year 1 day"),
        (10**20, "3170979198 years 137 days"),
    ],
)
def test_durations_are_for_people(span_ms, words):
    assert duration(span_ms) == words


def test_instants_are_iso_8601_and_clamped():
    assert utc(0) == utc(-5) == "1970-01-01T00:00:00Z"
    assert utc(CREATED_MS + 999) == "2023-11-14T22:13:20Z"
    assert utc(10**30) == "9999-12-31T23:59:59Z"


# --- policies -------------------------------------------------------------------------------------

LATE_S = 600
CLOSES_MS = EXPIRES_MS + LATE_S * 1000


def test_money_that_came_late_and_counts():
    story = History(policy=Policy(accept_late_s=LATE_S))
    story.tell(TimeReached(EXPIRES_MS))
    assert told(story, now_ms=EXPIRES_MS + 1) == {
        "nothing_received": "No payment to bcrt1qexample has been seen since 2023-11-14T22:13:20Z;"
        " the deadline was 2023-11-14T23:13:20Z, and late money is accepted until"
        " 2023-11-14T23:23:20Z.",
        "late_window": "The deadline passed at 2023-11-14T23:13:20Z; by the policy money that comes"
        " until 2023-11-14T23:23:20Z still counts, as late.",
    }
    story.tell(included("a", REQUIRED, into=block(10), at_ms=TOO_LATE))
    # The header of that block is older than the deadline: it was in time.
    assert "late_accepted" not in told(story, now_ms=TOO_LATE)
    late = History(policy=Policy(accept_late_s=LATE_S))
    late.tell(TimeReached(EXPIRES_MS))
    late.tell(seen("a", REQUIRED, at_ms=TOO_LATE))
    assert told(late, now_ms=TOO_LATE)["late_accepted"].endswith(
        "arrived 3 min after the deadline: credited, as the policy has it."
    )


def test_what_expired_although_late_money_counted():
    story = History(policy=Policy(accept_late_s=LATE_S))
    story.tell(TimeReached(CLOSES_MS))
    assert told(story, now_ms=CLOSES_MS)["expired"].startswith(
        "Expired: at the deadline, 2023-11-14T23:13:20Z, no money had come in time, or late by what"
        " the policy allows (until 2023-11-14T23:23:20Z)."
    )


def test_what_is_missing_and_tolerated():
    story = History(policy=Policy(tolerance_bps=100))
    story.tell(seen("a", REQUIRED - 500_000, at_ms=IN_TIME))
    assert told(story)["tolerated"] == (
        "0.495 of 0.5 BTC came; the 0.005 BTC that are missing are within the 0.005 BTC that the"
        " policy tolerates."
    )


def test_a_payment_that_its_sender_may_replace():
    story = History(confirmations=0, policy=Policy(rbf_confirmations=2))
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME, replaceable=True))
    assert told(story)["unconfirmed"].endswith(
        "not in a block yet; its sender may replace it, so it needs 2 confirmations."
    )
    mined = included("a", REQUIRED, into=block(10), at_ms=IN_TIME, replaceable=True)
    story.tell(mined)
    assert "1 of 2 confirmations" in told(story)["waiting_confirmations"]
    story.tell(TipReached(11, IN_TIME))
    assert told(story)["settled"].endswith("with 2 confirmations.")


def test_a_cancelled_invoice():
    story = History()
    story.tell(CancelAsked(IN_TIME))
    assert told(story) == {
        "cancelled": "Cancelled before anything was paid. The address stays watched, but money that"
        " comes all the same is recorded, not credited."
    }
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME))
    assert "came after the invoice had been cancelled: recorded" in told(story)["late_payment"]
