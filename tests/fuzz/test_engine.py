"""The fuzzer itself: it finds what is planted, the same each time, and says how to repeat it."""

import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from tests.fuzz import engine
from tests.fuzz.engine import (
    Check,
    GrowthError,
    HangError,
    Progress,
    Target,
    for_cases,
    plain,
    repeat,
    run,
)
from tests.fuzz.mutation import as_json, mutated, mutated_json, mutated_text

SEEDS = [b"GET / HTTP/1.1", b"\x00\x01\x02" * 20]
DOCUMENT = {"a": [1, {"b": "0xff"}], "c": None, "d": True}


@pytest.fixture(autouse=True)
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(engine, "SAVED", tmp_path)
    return tmp_path


def target_of(check: object) -> Target:
    return Target("planted", lambda dice: mutated(dice, dice.choice(SEEDS)), plain(check), cases=9)  # type: ignore[arg-type]


def refuse_ff(data: bytes) -> None:
    assert b"\xff" not in data, "there is one"


def failure(target: Target, seed: int, *, first: int = 0) -> tuple[AssertionError, Progress]:
    progress = Progress(seed)
    with pytest.raises(AssertionError, match="there is one") as caught:
        run(target, progress, first=first, goes_on=for_cases(5000))
    return caught.value, progress


def test_what_is_planted_is_found_alike_each_time_and_saved(saved: Path) -> None:
    target = target_of(refuse_ff)
    error, progress = failure(target, 7)
    assert failure(target, 7)[1] == progress
    told = "\n".join(error.__notes__)
    assert f"make fuzz TARGET=planted SEED=7 CASE={progress.case}" in told
    (file,) = saved.iterdir()
    assert file.name == f"planted-7-{progress.case}"
    assert file.name in told
    with pytest.raises(AssertionError, match="there is one"):
        repeat(target, file.read_bytes())


def test_a_case_is_the_same_whatever_came_before_it() -> None:
    target = target_of(refuse_ff)
    _, progress = failure(target, 7)
    assert failure(target, 7, first=progress.case)[1].case == progress.case


def test_other_seeds_are_other_inputs() -> None:
    seen: list[set[bytes]] = []
    for seed in (1, 2):
        seen.append(set())
        run(target_of(seen[-1].add), Progress(seed), goes_on=for_cases(200))
    assert len(seen[0] & seen[1]) < 100


def test_what_waits_or_computes_without_end_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "HANG_S", 0.05)

    @asynccontextmanager
    async def waiting() -> AsyncIterator[Check]:
        async def check(_: bytes) -> None:
            await trio.sleep_forever()

        yield check

    def compute(_: bytes) -> None:
        while time.monotonic():
            pass

    with pytest.raises(HangError, match="waits"):
        run(replace(target_of(refuse_ff), session=waiting), Progress(1), goes_on=for_cases(1))
    with pytest.raises(HangError, match="nothing else runs"):
        run(target_of(compute), Progress(1), goes_on=for_cases(1))


def test_what_takes_too_much_memory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MEMORY_BYTES", 32 * 2**20)
    with pytest.raises(GrowthError, match="MiB more"):
        run(target_of(lambda _: b"x" * (96 * 2**20)), Progress(1), goes_on=for_cases(1))


def test_sessions_are_of_so_many_cases() -> None:
    opened = []

    @asynccontextmanager
    async def session() -> AsyncIterator[Check]:
        opened.append(0)

        async def check(_: bytes) -> None:
            opened[-1] += 1

        yield check

    target = replace(target_of(refuse_ff), session=session, per_session=4)
    run(target, Progress(1), goes_on=for_cases(10))
    assert opened == [4, 4, 2]


def test_damage_is_damage_and_of_every_kind() -> None:
    for seed in range(300):
        dice = random.Random(seed)
        assert len(mutated(dice, SEEDS[1], others=SEEDS)) <= 2**20
        assert isinstance(mutated_text(dice, "xpub6CUGRU", others=["abc"]), str)
        assert as_json(mutated_json(dice, DOCUMENT, others=[1]))
    assert DOCUMENT == {"a": [1, {"b": "0xff"}], "c": None, "d": True}
    changed = {mutated(random.Random(seed), SEEDS[1]) for seed in range(300)}
    assert len(changed) > 250
    assert {len(each) for each in changed} > {len(SEEDS[1])}
