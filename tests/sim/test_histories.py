"""Simulated histories of the whole daemon: the budget of every run of the tests.

The seeds are always the same and printed; `make sim` plays others.
"""

import pytest

from tests.sim.__main__ import Failed, attempt

SHARES = 4
HISTORIES = 48


@pytest.mark.parametrize("share", range(SHARES))
def test_every_history_ends_as_the_plain_accounts_say(share: int, capsys):
    count = HISTORIES // SHARES
    first = share * count
    with capsys.disabled():
        print(f" seeds {first} to {first + count - 1} ", end="", flush=True)
    for seed in range(first, first + count):
        found = attempt(seed)
        assert not isinstance(found, Failed), f"{found.why}\nagain: make sim SEED={seed}"
