"""Whatever happened, and however the daemon got to know of it: an audit of the end is clean."""

import pytest

from actors.core.invoice import State
from tests.helpers.auditing import audited, falsify
from tests.helpers.scenarios import SCENARIOS
from tests.helpers.stage import Delivery, Scenario, Stage
from tests.helpers.watched_chain import watched_chain

CASES = [
    pytest.param(scenario, delivery, id=f"{scenario.name} | {delivery.name.lower()}")
    for scenario in SCENARIOS
    for delivery in Delivery
    if delivery not in scenario.not_in
]
OTHER = {
    State.PENDING: State.SETTLED,
    State.SEEN: State.SETTLED,
    State.SETTLED: State.PENDING,
    State.EXPIRED: State.SETTLED,
    State.CANCELLED: State.SETTLED,
}


@pytest.mark.parametrize(("scenario", "delivery"), CASES)
async def test_an_honest_store_is_clean_and_a_false_state_is_found(
    autojump_clock, scenario: Scenario, delivery: Delivery
):
    async with watched_chain() as it:
        stage = Stage(it, delivery)
        await stage.begin()
        await scenario.play(stage)
        await stage.rest()
        report = await audited(it)
        assert report.failure is None
        assert report.findings == [], report
        assert report.invoices == len(stage.invoices)
        await it.stop()
        for terms in stage.invoices:
            honest = await it.invoice(terms)
            falsify(it, terms, state=OTHER[honest.state], reversed=False)
            found = (await audited(it)).findings
            falsify(it, terms, state=honest.state, reversed=honest.reversed)
            # A settled invoice that was robbed may be pending, a covered one settled a moment ago.
            if honest.state is not State.SEEN and not honest.reversed:
                assert found, (terms.invoice_id, honest)
