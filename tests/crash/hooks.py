"""Receivers of a story's webhooks: each a process; one takes all, one refuses and is killed too."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.crash.findings import Finding, some
from tests.crash.ports import own_port
from tests.helpers.daemon import Daemon
from tests.helpers.log_readers import Told, told
from tests.helpers.process import ServerError, wait_until
from tests.helpers.receiver import Receiver

TAKEN_S = 90.0


class Hooks:
    """Two endpoints of every event; a context manager."""

    def __init__(self, daemon: Daemon, folder: Path, *, seed: int) -> None:
        self._daemon = daemon
        self._receivers = {
            "patient receiver": Receiver(folder / "patient", seed=seed),
            "moody receiver": Receiver(folder / "moody", seed=seed, refuse=0.1),
        }
        for receiver in self._receivers.values():
            receiver.port = own_port()
        self._ids: dict[str, str] = {}
        self.taken = 0
        """Webhooks that were accepted, each once."""
        self.repeated = 0
        """Those that were accepted again."""

    def __enter__(self) -> Self:
        for receiver in self._receivers.values():
            receiver.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for receiver in self._receivers.values():
            receiver.kill()

    def register(self) -> None:
        """From the first event on."""
        for name, receiver in self._receivers.items():
            body = {"url": receiver.url, "from_start": True}
            status, _, made = self._daemon.http("POST", "/v1/webhooks", body)
            assert status == 201, made
            receiver.trust(made["secret"])
            self._ids[name] = made["id"]

    def disturb(self, chance: random.Random) -> None:
        """Kill the moody one, or bring it back."""
        receiver = self._receivers["moody receiver"]
        if not receiver.is_running:
            receiver.start()
        elif chance.random() < 0.3:
            receiver.kill()

    def check(self, log: list[Told]) -> list[Finding]:
        """Wait until each has the whole log, and say what is wrong; a repetition is not."""
        for name, receiver in self._receivers.items():
            receiver.kill()
            receiver.behave()
            receiver.start()
            path = f"/v1/webhooks/{self._ids[name]}/resume"  # do not wait for the next attempt
            status, _, answer = self._daemon.http("POST", path, {})
            assert status == 200, answer
        found = []
        for name, receiver in self._receivers.items():
            found += self._check(name, receiver, log)
        return found

    def _check(self, name: str, receiver: Receiver, log: list[Told]) -> list[Finding]:
        wanted = {event.id: event for event in log}

        def has_all() -> bool:
            return wanted.keys() <= {one.id for one in receiver.accepted()}

        try:
            wait_until(has_all, f"the {name} has {len(log)} events", timeout_s=TAKEN_S)
        except ServerError:
            taken = {one.id for one in receiver.accepted()}
            return some("lost", f"the {name} lacks", (one for one in wanted if one not in taken))
        taken_in_order: dict[str, Told] = {}
        unsigned, strange = [], []
        for one in receiver.requests():
            if not one.signed:
                unsigned.append(one.id)
            if not one.accepted or one.body["seq"] is None:
                continue
            if one.id != one.body["id"] or wanted.get(one.id) != told(one.body):
                strange.append(one.body)
            self.repeated += one.id in taken_in_order
            taken_in_order.setdefault(one.id, told(one.body))
        self.taken += len(taken_in_order)
        return [
            *some("wrong", f"the {name} was sent without a signature", unsigned),
            *some("wrong", f"the {name} was told what the log does not say", strange),
            *some("wrong", f"the {name} was told out of order", _out_of_order(taken_in_order)),
        ]


def _out_of_order(taken: dict[str, Told]) -> list[int]:
    """Events that came after a later one of their invoice."""
    last: dict[str, int] = defaultdict(int)
    found = []
    for event in taken.values():
        if event.seq < last[event.invoice_id]:
            found.append(event.seq)
        last[event.invoice_id] = max(event.seq, last[event.invoice_id])
    return found
