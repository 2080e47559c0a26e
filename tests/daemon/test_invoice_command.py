"""What `tallyd invoice show` says of an invoice's policy."""

from __future__ import annotations

from actors.core.assets import Asset, Catalogue, Chain
from actors.core.explain import ChainSituation
from actors.core.policy import Policy
from actors.ports import LogEntry
from daemon.commands.invoice import lines
from tests.helpers.invoices import CREATED_MS, History, seen

CATALOGUE = Catalogue(
    chains=[Chain("btc", "Bitcoin", "bitcoin", "BTC", 600.0, 3)],
    assets=[Asset("BTC", "btc", "BTC", "Bitcoin", 8)],
)
CURRENT = ChainSituation("current", None, 10, 2**60)


def shown(story: History) -> list[str]:
    entries = tuple(
        LogEntry(number, story.invoice.terms.invoice_id, number, event)
        for number, event in enumerate(story.events, 1)
    )
    return list(lines(story.invoice, entries, CATALOGUE, CURRENT))


def test_policy_and_metadata_are_shown_and_what_was_applied_is_named():
    story = History(policy=Policy(tolerance_base=100), metadata=(("order", "A-17"),))
    story.tell(seen("a", 49_999_950, at_ms=CREATED_MS + 1))
    found = shown(story)
    assert 'Policy     {"tolerance_base": "100"}' in found
    assert 'Metadata   {"order": "A-17"}' in found
    (covered,) = [line for line in found if "invoice.covered" in line]
    assert covered.endswith("credited_base=49999950 policies=underpayment_tolerance")


def test_an_invoice_without_them_says_nothing_of_them():
    assert not [line for line in shown(History()) if line.startswith(("Policy", "Metadata"))]
