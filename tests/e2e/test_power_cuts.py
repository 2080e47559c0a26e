"""`kill -9` at random moments while payments flow: every client's view equals the chain.

The small run of `make crash`. The seed of a failure is in its output: put it into TALLY_TEST_SEED
to draw the same plan.
"""

import os
import random

import pytest

from tests.crash.coins import BitcoinCoin
from tests.crash.story import Story
from tests.crash.world import Mix
from tests.helpers.webhook_fleet import ALLOW_LOOPBACK

KILLS = {"sqlite": 6, "postgres": 3}
SEED = int(os.environ.get("TALLY_TEST_SEED", "0")) or random.randrange(1, 10**9)
QUICK = Mix(away=0, dated=0)
"""What the daemon takes half a minute to believe is left to `make crash`."""


@pytest.mark.parametrize("store", KILLS)
def test_power_cuts(store, request, make_daemon, btc_node, ltc_node, tmp_path):
    print(f"TALLY_TEST_SEED={SEED}")
    env = dict(ALLOW_LOOPBACK)
    if store == "postgres":
        env["TALLY_DATABASE_URL"] = request.getfixturevalue("postgres_url")
    daemon = make_daemon(btc_node, ltc_node, env=env)

    def coins(chance):
        return [BitcoinCoin(node, chance, dated=QUICK.dated) for node in (btc_node, ltc_node)]

    outcome = Story(daemon, coins, tmp_path, seed=SEED, kills=KILLS[store], mix=QUICK).run()
    print(dict(outcome.counts), outcome.recoveries_s)
    assert outcome.findings == []
    assert outcome.counts["kills"] == KILLS[store]
    assert outcome.counts["payments"]
