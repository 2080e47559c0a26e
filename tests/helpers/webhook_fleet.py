"""Webhook endpoints of a real daemon, each with a receiver that behaves in its own bad way."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.helpers.daemon import Daemon
from tests.helpers.log_readers import Told, told
from tests.helpers.process import wait_until
from tests.helpers.receiver import Receiver

ALLOW_LOOPBACK = {"TALLY_WEBHOOKS_ALLOW_NETWORKS": "127.0.0.0/8"}
BEHAVIOURS: dict[str, dict[str, Any]] = {
    "good": {},
    "killed": {},
    "random": {"refuse": 0.1},
    "hanging": {"hang_first": 2},
    "failing": {"refuse": 1.0, "for_ever": True},
}


class Fleet:
    """Endpoints that get every event from now on; a context manager."""

    def __init__(self, daemon: Daemon, folder: Path, *, seed: int) -> None:
        self._daemon = daemon
        self.receivers = {
            name: Receiver(folder / f"receiver-{name}", seed=seed, **behaviour)
            for name, behaviour in BEHAVIOURS.items()
        }
        self._ids: dict[str, str] = {}

    def __enter__(self) -> Self:
        for name, receiver in self.receivers.items():
            receiver.start()
            status, _, made = self._daemon.http("POST", "/v1/webhooks", {"url": receiver.url})
            assert status == 201, made
            receiver.trust(made["secret"])
            self._ids[name] = made["id"]
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for receiver in self.receivers.values():
            receiver.kill()

    def disturb(self, chance: random.Random) -> None:
        """Kill the one that is killed, or bring it back."""
        receiver = self.receivers["killed"]
        if receiver.is_running and chance.random() < 0.7:
            receiver.kill()
        elif not receiver.is_running:
            receiver.start()

    def heal(self) -> None:
        """From now on everybody takes everything, and what failed is tried at once."""
        assert not self.receivers["failing"].accepted()
        self.receivers["failing"].kill()
        self.receivers["failing"].behave()
        for name, receiver in self.receivers.items():
            if not receiver.is_running:
                receiver.start()
            path = f"/v1/webhooks/{self._ids[name]}/resume"
            status, _, answer = self._daemon.http("POST", path, {})
            assert status == 200, answer

    def check(self, wanted: list[Told], *, within_s: float) -> None:
        """Wait until all have all; each was signed, and came in the order of its invoice."""
        ids = {event.id for event in wanted}
        for name, receiver in self.receivers.items():

            def has_all(receiver: Receiver = receiver) -> bool:
                return ids <= {one.id for one in receiver.accepted()}

            wait_until(has_all, f"the {name} receiver has {len(ids)} events", timeout_s=within_s)
            requests = receiver.requests()
            assert all(one.signed for one in requests), name
            taken: dict[str, Told] = {}
            for one in requests:
                if one.accepted and one.body["seq"] is not None:
                    assert one.id == one.body["id"]
                    assert told(one.body) == taken.setdefault(one.id, told(one.body)), name
            assert sorted(taken.values(), key=lambda event: event.seq) == wanted, name
            last: dict[str, int] = defaultdict(int)
            for event in taken.values():
                assert event.seq > last[event.invoice_id], (name, event)
                last[event.invoice_id] = event.seq
            print(f"{name} receiver: {len(requests)} requests for {len(wanted)} events")
