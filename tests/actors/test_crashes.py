"""A crash at any await: after the restart the same end, each event once, fold = state."""

import pytest
import trio
import trio.testing

from tests.helpers.crasher import Crasher
from tests.helpers.scenarios import SCENARIOS
from tests.helpers.stage import Delivery, Outcome, Stage
from tests.helpers.watched_chain import WatchedChain, watched_chain

SHARES = 4
"""Each scenario's steps are shared out over this many tests."""
SCENARIOS_BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
CRASHED = (
    "two partials",
    "bumped to another",
    "there and back",
    "reversed, then restored",
)


class Played:
    """A scenario with one crash in it."""

    def __init__(self, name: str, at_step: int | None) -> None:
        self.scenario = SCENARIOS_BY_NAME[name]
        self.at_step = at_step
        self.steps = 0
        self.ends: tuple[Outcome, ...] = ()

    async def play(self) -> None:
        async with watched_chain(started=False) as it:
            crasher = Crasher(self.at_step, it.crash)
            crasher.spare(trio.lowlevel.current_task())
            trio.lowlevel.add_instrument(crasher)
            try:
                await it.start()
                await it.told()
                stage = Stage(it, Delivery.IN_ORDER)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._restart, it, crasher)
                    crasher.counting = True
                    await self.scenario.play(stage)
                    await stage.rest()
                    crasher.counting = False
                    nursery.cancel_scope.cancel()
            finally:
                trio.lowlevel.remove_instrument(crasher)
            self.steps = crasher.steps
            self.ends = tuple([await stage.outcome(terms) for terms in stage.invoices])

    async def _restart(self, it: WatchedChain, crasher: Crasher) -> None:
        crasher.spare(trio.lowlevel.current_task())
        await it.stopped()
        # As systemd would: after a moment, in which the chain may go on.
        await trio.sleep(0.7)
        await it.start()


def run(name: str, at_step: int | None) -> Played:
    trio._core._run._r.seed(at_step or 0)
    played = Played(name, at_step)
    trio.run(played.play, clock=trio.testing.MockClock(autojump_threshold=0))
    return played


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("name", CRASHED)
def test_a_crash_at_any_await_changes_nothing(name: str, share: int):
    steps = run(name, None).steps
    assert steps > 120
    for at_step in range(1 + share, steps, SHARES):
        played = run(name, at_step)
        assert played.ends == played.scenario.ends, f"crashed at step {at_step} of {steps}"
