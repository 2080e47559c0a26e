"""Real processes on one database, killed at any instant: one log, and the duty goes on."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from actors.core.invoice import fold
from actors.ports import LogEntry
from daemon.store import open_store
from tests.helpers.ledger import creation
from tests.helpers.log_chain import chain_of
from tests.helpers.process import wait_until
from tests.store.conftest import ignore

PROCESSES = 3
KILLS = 3
HAND_OVER_S = 5.0
"""What is promised."""


class Child:
    """One process and what it said, each line in words."""

    def __init__(self, url: str, first_number: int) -> None:
        command = [sys.executable, "-m", "tests.helpers.shared_child", url, str(first_number)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.said: list[list[str]] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def says(self, word: str) -> list[list[str]]:
        return [words[1:] for words in list(self.said) if words[0] == word]

    def kill(self) -> float:
        """Kill it and wait until all that it said is read; the time of the kill."""
        self._process.kill()
        killed_at = time.monotonic()
        self._process.wait()
        self._reader.join()
        return killed_at

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                # The last line may be cut off; the store is not to blame for that.
                if line.endswith("\n"):
                    self.said.append(line.split())


@contextmanager
def children(url: str) -> Iterator[Iterator[Child]]:
    """New processes, as many as are asked for; they are killed at the end."""
    with ExitStack() as stack:

        def start() -> Iterator[Child]:
            for number in itertools.count(1):
                child = Child(url, number * 1_000_000)
                stack.callback(child.kill)
                yield child

        yield start()


async def test_processes_that_are_killed_leave_one_log_and_hand_their_duty_over(
    shared_url: str,
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    ended: list[Child] = []
    with children(shared_url) as new:
        alive = [next(new) for _ in range(PROCESSES)]
        holder = _holder(alive)
        for turn in range(KILLS):
            _let_work(alive, chance)
            victim = holder if turn % 2 == 0 else chance.choice(alive)
            killed_at = victim.kill()
            alive.remove(victim)
            ended.append(victim)
            if victim is holder:
                holder = _holder(alive)
                took_s = float(holder.says("held")[0][0]) - killed_at
                print(f"kill {turn + 1}: handed over in {took_s:.2f} s")
                assert took_s < HAND_OVER_S
            alive.append(next(new))
        _let_work(alive, chance)
        for child in alive:
            child.kill()
    await _check(shared_url, [*ended, *alive])


def _holder(alive: list[Child]) -> Child:
    def found() -> Child | None:
        return next((child for child in alive if child.says("held")), None)

    return wait_until(found, "somebody holds the duty")


def _let_work(alive: list[Child], chance: random.Random) -> None:
    """Until each has said something new, and then a moment that nobody can foresee."""
    before = [len(child.says("asked")) for child in alive]

    def worked() -> bool:
        return all(
            len(child.says("asked")) > count for child, count in zip(alive, before, strict=True)
        )

    wait_until(worked, "every process is answered what it asked")
    time.sleep(chance.random() / 10)


async def _check(url: str, everybody: list[Child]) -> None:
    async with open_store(url, on_commit=ignore, busy_timeout_s=20) as store:
        entries: list[LogEntry] = []
        while page := await store.read(after_seq=len(entries), limit=1000):
            entries.extend(page)
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
        assert await store.tip() == await chain_of(store)
        histories: dict[object, list[LogEntry]] = {}
        for entry in entries:
            histories.setdefault(entry.invoice_id, []).append(entry)
        for invoice_id, history in histories.items():
            assert [entry.version for entry in history] == list(range(1, len(history) + 1))
            row = await store.invoice(invoice_id)  # type: ignore[arg-type]
            assert row is not None
            assert row.invoice == fold(entry.event for entry in history)
    for child in everybody:
        for number, version, seq in child.says("wrote"):
            entry = entries[int(seq) - 1]
            assert entry.version == int(version)
            assert entry.invoice_id == creation(int(number)).after.terms.invoice_id
        for number, seq in child.says("asked"):
            entry = entries[int(seq) - 1]
            assert entry.version == 1
            assert entry.invoice_id == creation(int(number)).after.terms.invoice_id
        heard = [(int(first), int(last)) for first, last in child.says("heard")]
        assert heard
        for (_, last), (first, _) in itertools.pairwise(heard):
            assert first == last + 1, "a follower sees every fact once, in order"
