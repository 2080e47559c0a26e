"""A client of GoiPay's stream, which has no cursor: it asks for all it knows when it connects."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence

import grpc

from tests.helpers.goipay_client import GoiPay, StatusStream, Update

RETRY_S = 0.2
LIFE_S = 3600.0


class StatusReader(threading.Thread):
    """Connects again and again until stopped."""

    def __init__(self, port: int, invoices: Callable[[], Sequence[str]]) -> None:
        super().__init__(name="status reader", daemon=True)
        self._port = port
        self._invoices = invoices
        self._stopped = threading.Event()
        self._streams: list[StatusStream] = []
        self._asked: dict[str, str] = {}
        """Invoice → status, as it was answered after the last stream was opened."""

    def told(self) -> list[Update]:
        """All that the streams have told, over all connections."""
        return [update for stream in self._streams for update in stream.all()]

    def statuses(self) -> dict[str, str]:
        """What this client believes now."""
        newest = self._streams[-1].all() if self._streams else []
        return {**self._asked, **{update.id: update.status for update in newest}}

    def stop(self) -> None:
        """Ends at the latest when the daemon does."""
        self._stopped.set()

    def run(self) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(grpc.RpcError), GoiPay(self._port, patient=False) as client:
                # The stream first: nothing falls between it and the answer.
                stream = client.watch()
                self._streams.append(stream)
                known = client.get(*self._invoices())
                self._asked = {one.id: one.status for one in known}
                stream.until_ended(within_s=LIFE_S)
            self._stopped.wait(RETRY_S)
