"""`make crash`: real daemons with real nodes, killed hundreds of times, and held to the chains.

python -m tests.crash --kills 300                            on SQLite and PostgreSQL, in turn
python -m tests.crash --seed 4711 --kills 25 --database sqlite   one story again

Every story of so many kills has a daemon, a database and nodes of its own. A seed draws the same
plan again; when exactly a process dies is the machine's. What a failed story leaves is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Before grpcio is imported: its threads come back in a forked child and crash there; starting
# PostgreSQL as another user needs such a fork.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

from benchmarks import proofs, report
from benchmarks.latency import percentile
from tests.crash.coins import BitcoinCoin, Coin, EvmCoin
from tests.crash.findings import Finding
from tests.crash.ports import own_port
from tests.crash.story import Outcome, Story
from tests.crash.world import Mix
from tests.helpers.anvil import AnvilNode
from tests.helpers.bitcoind import BitcoinNode
from tests.helpers.daemon import ROOT, Daemon
from tests.helpers.postgres import PostgresServer
from tests.helpers.webhook_fleet import ALLOW_LOOPBACK
from tests.nodes.install import find

FOLDER = ROOT / ".cache" / "crash"
KILLS_PER_STORY = 25
STORY_LIMIT_S = 1800.0
DATABASES = {"sqlite": ("sqlite",), "postgres": ("postgres",), "both": ("sqlite", "postgres")}


@dataclass(frozen=True)
class Task:
    """One story to be played in a process of its own."""

    seed: int
    kills: int
    database: str

    @property
    def again(self) -> str:
        return f"make crash SEED={self.seed} KILLS={self.kills} DATABASE={self.database}"

    @property
    def folder(self) -> Path:
        return FOLDER / f"{self.database}-{self.seed}"


def tasks(kills: int, databases: Sequence[str], first_seed: int) -> list[Task]:
    """Stories with `kills` in all, on the databases in turn; as even as they can be."""
    stories = max(len(databases), -(-kills // KILLS_PER_STORY)) if kills >= len(databases) else 1
    each, more = divmod(kills, stories)
    return [
        Task(first_seed + number, each + (number < more), databases[number % len(databases)])
        for number in range(stories)
    ]


# --- one story, in this process -------------------------------------------------------------------


def play(task: Task) -> Outcome:
    """With nodes of its own: Bitcoin, Litecoin, and Ethereum's where it is installed."""
    with ExitStack() as stack:
        bitcoins = [stack.enter_context(BitcoinNode(family)) for family in ("btc", "ltc")]
        for node in bitcoins:
            node.fund()
        env = {**ALLOW_LOOPBACK, "TALLY_LTC_POLL_INTERVAL_S": "0.2"}
        anvil = stack.enter_context(AnvilNode(1)) if find("evm") else None
        if anvil is not None:
            env["ETH_DAEMON_URL"] = anvil.ws_url
        if task.database == "postgres":
            server = stack.enter_context(PostgresServer())
            env["TALLY_DATABASE_URL"] = server.create_database()
        mix = Mix()

        def coins(chance: random.Random) -> list[Coin]:
            made: list[Coin] = [BitcoinCoin(node, chance, dated=mix.dated) for node in bitcoins]
            return made if anvil is None else [*made, EvmCoin(anvil, chance)]

        daemon = Daemon(
            task.folder / "state",
            nodes=tuple(bitcoins),
            env=env,
            grpc_port=own_port(),
            http_port=own_port(),
        )
        return Story(daemon, coins, task.folder, seed=task.seed, kills=task.kills, mix=mix).run()


# --- all of them ----------------------------------------------------------------------------------


def run_apart(task: Task, say: Callable[[str], None]) -> Outcome:
    """Play a story in a process of its own; one that breaks has found something, too."""
    shutil.rmtree(task.folder, ignore_errors=True)
    task.folder.mkdir(parents=True)
    answer = task.folder / "outcome.json"
    command = [sys.executable, "-u", "-m", "tests.crash", "--child", str(answer)]
    command += [f"--seed={task.seed}", f"--kills={task.kills}", f"--database={task.database}"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            say(f"[{task.database} {task.seed}] {line.rstrip()}")
        status = process.wait(STORY_LIMIT_S)
    (task.folder / "output.txt").write_text("".join(said))
    if status:
        why = "".join(said[-30:])
        return Outcome(task.seed, findings=[Finding("wrong", f"the story broke: {why}")])
    found = json.loads(answer.read_text())
    outcome = Outcome(
        found["seed"],
        Counter(found["counts"]),
        found["recoveries_s"],
        [Finding(**one) for one in found["findings"]],
    )
    if not outcome.findings:
        shutil.rmtree(task.folder)
    return outcome


def figures(outcomes: Sequence[Outcome], took_s: float) -> dict[str, Any]:
    """For docs/performance.md."""
    counts: Counter[str] = Counter()
    for outcome in outcomes:
        counts.update(outcome.counts)
    recoveries_s = sorted(one for outcome in outcomes for one in outcome.recoveries_s)
    named = {name.replace(" ", "_"): number for name, number in sorted(counts.items())}
    return {
        "kills": counts["kills"],
        **{kind: sum(one.of(kind) for one in outcomes) for kind in ("lost", "doubled", "wrong")},
        "stories": len(outcomes),
        **{name: number for name, number in named.items() if name != "kills"},
        **{
            f"recovery_s_p{percent}": round(percentile(recoveries_s, percent), 2)
            for percent in (50, 99)
            if recoveries_s
        },
        "recovery_s_max": round(max(recoveries_s, default=0.0), 2),
        "seeds": ", ".join(str(outcome.seed) for outcome in outcomes),
        "minutes": round(took_s / 60, 1),
    }


def run_all(wanted: Sequence[Task], *, jobs: int, command: str | None) -> int:
    """With a `command` the figures go onto the page, as repeated by it."""
    machine, began = report.machine(), time.monotonic()
    print(f"{len(wanted)} stories from seed {wanted[0].seed}, {jobs} side by side", flush=True)
    with ThreadPoolExecutor(jobs) as pool:
        outcomes = list(pool.map(lambda task: run_apart(task, _say), wanted))
    found = figures(outcomes, time.monotonic() - began)
    print(json.dumps(found, indent=2))
    for task, outcome in zip(wanted, outcomes, strict=True):
        for finding in outcome.findings:
            print(f"\nSEED {task.seed} on {task.database}: {finding}")
        if outcome.findings:
            print(f"again: {task.again}\nkept: {task.folder}")
    if command is not None:
        print(proofs.record("crash", command=command, figures=found, machine=machine))
    return 1 if any(outcome.findings for outcome in outcomes) else 0


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill real daemons, and hold them to the chains.")
    parser.add_argument("--kills", type=int, default=50, help="in all (default: 50)")
    parser.add_argument("--database", choices=DATABASES, default="both")
    parser.add_argument("--seed", type=int, help="of the first story (default: this moment)")
    parser.add_argument("--jobs", type=int, default=2, help="stories side by side (default: 2)")
    parser.add_argument("--write", action="store_true", help="into docs/performance.md")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.kills < 1 or given.jobs < 1:
        parser.error("--kills and --jobs are at least 1")
    if given.child is not None:
        outcome = play(Task(given.seed, given.kills, given.database))
        findings = [asdict(finding) for finding in outcome.findings]
        given.child.write_text(json.dumps({**vars(outcome), "findings": findings}))
        return 0
    first = time.time_ns() // 1_000_000 % 10**9 if given.seed is None else given.seed
    wanted = tasks(given.kills, DATABASES[given.database], first)
    command = f"make crash KILLS={given.kills}" if given.write else None
    return run_all(wanted, jobs=given.jobs, command=command)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
