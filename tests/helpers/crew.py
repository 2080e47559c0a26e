"""The processes of one tallyd in roles on one PostgreSQL database, and readers that roam."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from tests.helpers.bitcoind import BitcoinNode
from tests.helpers.daemon import Daemon
from tests.helpers.goipay_client import RECONNECT
from tests.helpers.log_readers import EventSource, StreamReader, Told
from tests.helpers.process import wait_until

SETTINGS = {
    "TALLY_VAULT_KEY": "5a" * 32,
    "TALLY_WEBHOOKS_ALLOW_NETWORKS": "127.0.0.0/8",
}
CREW = ("watch:btc", "watch:btc", "api", "api", "deliver", "deliver")
AGAIN = (409, 503)
"""A request with the same key is at work still; nobody can do it now."""
Asked = tuple[int, Any]


class Crew:
    """Two of each role; a context manager. ``folder`` keeps a log of each."""

    def __init__(self, folder: Path, node: BitcoinNode, url: str) -> None:
        self.env = {"TALLY_DATABASE_URL": url, **SETTINGS}
        self.members = [
            Daemon(
                folder / f"{number}-{role.replace(':', '-')}",
                nodes=(node,),
                env=self.env,
                arguments=("run", "--role", role),
            )
            for number, role in enumerate(CREW)
        ]
        self.apis = [one for one in self.members if self.role(one) == "api"]

    def role(self, member: Daemon) -> str:
        return CREW[self.members.index(member)]

    def __enter__(self) -> Self:
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.start, self.members))
        self.apis[0].wait_current()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with ThreadPoolExecutor() as pool:
            in_time = list(pool.map(Daemon.stop, self.members))
        assert all(in_time), "not all of them stopped in time"

    def start(self, member: Daemon) -> None:
        """Start one, and wait until it does its part or stands by for it."""
        if self.role(member) == "api":
            member.start(ready=False)
        else:
            before = lines(member, "event=ready")
            member.spawn()
            wait_until(
                lambda: lines(member, "event=ready") > before, f"{member.folder.name} is ready"
            )

    def holder(self, duty: str) -> Daemon | None:
        """Which of them holds the duty, as an API process says."""
        duties = self.ask("GET", "/readyz")[1]["duties"]
        standing = duties[duty]
        if standing is None:
            return None
        number = int(standing["holder"].rpartition(" ")[2])
        return next((one for one in self.members if one.is_running and one.pid == number), None)

    def ask(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, first: int = 0
    ) -> Asked:
        """Ask the API processes in turn until one of them answers, as a load balancer's client.

        What is not a question has a key, so that it is done once however often it is asked for.
        """
        headers = {} if key is None else {"Idempotency-Key": key}
        last: object = None
        for number in range(first, first + 120):
            api = self.apis[number % len(self.apis)]
            try:
                status, _, answer = api.http(method, path, body, headers)
            except (OSError, http.client.HTTPException) as error:
                last = error
            else:
                last = (status, answer)
                if status not in AGAIN:
                    return status, answer
            time.sleep(0.05)  # the pause of a client that tries again
        raise AssertionError(f"no process answers {method} {path}: {last}")


def lines(member: Daemon, text: str) -> int:
    """How many lines of its log, over all its lives, hold this."""
    return member.log.read_text().count(text) if member.log.exists() else 0


class RoamingStream(StreamReader):
    """Each connection to the next of several processes."""

    def __init__(self, name: str, ports: Sequence[int]) -> None:
        super().__init__(name, ports[0])
        others = [
            grpc.insecure_channel(f"127.0.0.1:{port}", options=RECONNECT) for port in ports[1:]
        ]
        self._channels = [self._channel, *others]

    def events(self, after_seq: int) -> Iterator[Told]:
        self._channel = self._channels[self.breaks % len(self._channels)]
        return super().events(after_seq)

    def hang_up(self) -> None:
        for channel in self._channels:
            channel.close()


class RoamingEvents(EventSource):
    """Likewise, over HTTP."""

    def __init__(self, name: str, ports: Sequence[int]) -> None:
        super().__init__(name, ports[0])
        self._ports = ports

    def events(self, after_seq: int) -> Iterator[Told]:
        self._port = self._ports[self.breaks % len(self._ports)]
        return super().events(after_seq)
