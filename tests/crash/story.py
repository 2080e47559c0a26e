"""One daemon, killed so many times while merchants sell and customers pay, and its judgement.

Each round ends with `kill -9`: of a daemon that starts, that catches up with what happened while
it was dead, or that serves. A seed draws the plan; when exactly the process dies is the machine's.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash import checks
from tests.crash.coins import Coin
from tests.crash.findings import Finding, compare
from tests.crash.hooks import Hooks
from tests.crash.status_reader import StatusReader
from tests.crash.world import Mix, World
from tests.helpers.daemon import Daemon
from tests.helpers.goipay_client import GoiPay
from tests.helpers.log_readers import EventSource, LogReader, Poller, StreamReader, whole_log
from tests.helpers.process import ServerError, wait_until

DRAINED_S = 60.0
ACTS = 10
"""Of a round, at most."""


@dataclass
class Outcome:
    """What happened, and what was wrong in the end."""

    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    recoveries_s: list[float] = field(default_factory=list)
    """From starting the process after a kill until every chain was current."""
    findings: list[Finding] = field(default_factory=list)

    def of(self, kind: str) -> int:
        return sum(finding.count for finding in self.findings if finding.kind == kind)


class Story:
    """`run` it once; the daemon is not started before, and is stopped afterwards."""

    def __init__(
        self,
        daemon: Daemon,
        coins: Callable[[random.Random], Sequence[Coin]],
        folder: Path,
        *,
        seed: int,
        kills: int,
        mix: Mix | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self._chance = random.Random(seed)
        self._daemon = daemon
        self._kills = kills
        self._say = say
        self._outcome = Outcome(seed)
        self._world = World(daemon, coins(self._chance), self._chance, mix or Mix())
        self._world.fleeting_until_round = kills // 2
        self._hooks = Hooks(daemon, folder, seed=seed)
        self._start_s = 2.0
        """How long a start takes until HTTP answers, as last measured."""
        self._is_open = False
        """Merchants have registered, and may order."""
        self._status_reader = StatusReader(daemon.grpc_port, self._known)
        one_by_one = {"remember_every": 1}
        self._readers: list[LogReader] = [
            StreamReader("the gRPC stream", daemon.grpc_port, **one_by_one),
            EventSource("server-sent events", daemon.http_port, **one_by_one),
            Poller("the poller", daemon.http_port, **one_by_one),
        ]

    def run(self) -> Outcome:
        with self._hooks:
            self._begin()
            try:
                while self._outcome.counts["kills"] < self._kills:
                    self._round(self._outcome.counts["kills"])
                self._end()
            finally:
                for reader in (*self._readers, self._status_reader):
                    reader.stop()
                in_time = self._daemon.stop()
        if not in_time:
            self._find([Finding("wrong", "the daemon did not stop when it was asked to")])
        self._find(checks.check_output(self._daemon))
        return self._outcome

    # --- acts ---

    def _begin(self) -> None:
        if self._chance.random() < 0.5:
            self._kill_a_start()  # also of the first, which makes the database
        self._start(ready=True)
        with GoiPay(self._daemon.grpc_port) as client:
            self._world.register(client)
        self._hooks.register()
        self._is_open = True
        for reader in (*self._readers, self._status_reader):
            reader.start()

    def _round(self, number: int) -> None:
        style = self._chance.random()
        if not self._daemon.is_running:
            for _ in range(self._chance.randint(4, ACTS) if style > 0.7 else 2):
                self._world.act(None, round_number=number)
            self._hooks.disturb(self._chance)
            if style < 0.25:
                self._kill_a_start()
                return
            if style > 0.7:
                self._start(ready=False)
                time.sleep(self._chance.uniform(0, 0.2))  # the moment of the power cut
                self._cut()
                return
            self._start(ready=self._chance.random() < 0.6)
        killer = threading.Timer(self._chance.uniform(0, 1.2), self._cut)
        with GoiPay(self._daemon.grpc_port, patient=False) as client:
            killer.start()
            self._world.repeat_wishes()
            for _ in range(ACTS):
                if killer.is_alive():
                    self._world.act(client, round_number=number)
            killer.join()

    def _kill_a_start(self) -> None:
        self._daemon.spawn()
        time.sleep(self._chance.uniform(0, 1.1 * self._start_s))  # the moment of the power cut
        self._cut()

    def _start(self, *, ready: bool) -> None:
        began = time.monotonic()
        self._daemon.start(ready=False)
        self._start_s = time.monotonic() - began
        if ready:
            self._daemon.wait_current()
            self._outcome.recoveries_s.append(time.monotonic() - began)

    def _cut(self) -> None:
        """Note in which phase the daemon was, and kill it a moment later, while it is asked."""
        phase = self._phase()
        asking = threading.Thread(target=self._world.order_now)
        if phase != "starts" and self._is_open:
            asking.start()
        time.sleep(random.uniform(0, 0.03))  # before, during or after the answer
        self._daemon.kill()
        if asking.ident is not None:
            asking.join()
        self._outcome.counts["kills"] += 1
        self._outcome.counts[f"kills of a daemon that {phase}"] += 1
        self._say(f"kill {self._outcome.counts['kills']} of {self._kills}: it {phase}")

    def _phase(self) -> str:
        status = self._daemon._status("/readyz")
        if status is None:
            return "starts"
        return "serves" if status == 200 else "catches up"

    def _known(self) -> list[str]:
        return [sold.id for sold in self._world.sold][-checks.AT_ONCE :]

    # --- the end ---

    def _end(self) -> None:
        world, daemon = self._world, self._daemon
        self._start(ready=True)
        world.repeat_wishes()
        if world.wishes:
            self._find([Finding("lost", f"nobody answers {world.wishes[0]}")])
        for coin in world.coins:
            coin.mine(2)
        self._say("waiting until everything is as the chains have it")
        with GoiPay(daemon.grpc_port) as client:
            self._find(checks.check_invoices(world, client))
        log = whole_log(lambda path: daemon.http("GET", path)[::2])
        for reader in self._readers:
            with contextlib.suppress(ServerError):  # what it lacks is told below
                wait_until(self._has_come_to(reader, log[-1].seq), reader.name, timeout_s=DRAINED_S)
            if reader.problem is not None:
                self._find([Finding("wrong", f"{reader.name} broke: {reader.problem!r}")])
            self._find(compare(reader.name, reader.raw, log))
        self._find(self._hooks.check(log))
        self._find(checks.check_statuses(world, self._status_reader, log))
        self._find(checks.check_log(daemon, log))
        self._count(len(log))

    @staticmethod
    def _has_come_to(reader: LogReader, seq: int) -> Callable[[], bool]:
        return lambda: reader.problem is not None or reader.seq >= seq

    def _count(self, events: int) -> None:
        counts = self._outcome.counts
        counts.update(self._world.counts)
        counts["invoices"] = len(self._world.sold)
        counts["events"] = events
        counts["events told on streams"] = sum(len(reader.raw) for reader in self._readers)
        counts["webhooks"] = self._hooks.taken
        counts["webhooks sent again"] = self._hooks.repeated

    def _find(self, findings: list[Finding]) -> None:
        for finding in findings:
            self._say(f"FOUND {finding}")
        self._outcome.findings += findings
