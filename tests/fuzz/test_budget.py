"""A fixed budget of every target, the same inputs in each run; `make fuzz` draws others."""

import json

import pytest

from tests.fuzz.engine import Progress, for_cases, run
from tests.fuzz.targets import TARGETS, chosen
from tests.fuzz.targets.wires import CORPUS

SEED = 1


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_from_outside_does_harm(name: str) -> None:
    target = TARGETS[name]
    progress = Progress(SEED)
    print(f"fuzzing {name}: seed {SEED}, {target.cases} cases")
    run(target, progress, goes_on=for_cases(target.cases))
    assert progress.done == target.cases


def test_targets_are_chosen_by_their_beginning() -> None:
    assert [one.name for one in chosen("monero-extra")] == ["monero-extra"]
    assert {one.name for one in chosen("grpc")} == {"grpc-frames", "grpc-calls"}
    assert len(chosen("")) == len(TARGETS)
    with pytest.raises(LookupError, match="there are: grpc-frames"):
        chosen("gopher")


def test_the_corpora_stay_small() -> None:
    files = sorted(CORPUS.iterdir())
    assert sum(file.stat().st_size for file in files) < 300_000
    assert all(json.loads(file.read_text())["answers"] for file in files)
