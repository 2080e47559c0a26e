"""A seed is a history: played twice, under other hash seeds, the very same things are seen."""

import os
import subprocess
import sys
from pathlib import Path

SEEDS = "range(200, 208)"
PLAY = f"from tests.sim.history import play_seed\nfor s in {SEEDS}: print(play_seed(s))"


def played(hash_seed: str) -> str:
    child = subprocess.run(
        [sys.executable, "-c", PLAY],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=True,
    )
    return child.stdout


def test_hash_randomisation_plays_no_part():
    first = played("1")
    assert first.count("Played(") == 8
    assert first == played("2")
