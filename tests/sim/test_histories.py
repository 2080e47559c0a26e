"""Simulated histories of the whole daemon: the budget of every run of the tests.

Most of the seeds are always the same, the others new each time and printed. `make sim` plays more.
"""

import time

import pytest

from tests.sim.__main__ import Failed, attempt

SHARES = 4
FIXED = 60
FRESH = 16


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("fresh", [False, True], ids=["fixed", "fresh"])
def test_every_history_ends_as_the_plain_accounts_say(share: int, fresh: bool, capsys):
    count = (FRESH if fresh else FIXED) // SHARES
    first = time.time_ns() // 1_000_000 % 10**9 if fresh else share * count
    with capsys.disabled():
        print(f" seeds {first} to {first + count - 1} ", end="", flush=True)
    for seed in range(first, first + count):
        found = attempt(seed)
        assert not isinstance(found, Failed), f"{found.why}\nagain: make sim SEED={seed}"
