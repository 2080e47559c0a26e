"""Readers of the event log that never give up: grpcio's stream, server-sent events, the poller.

Each has a thread of its own and remembers its place only now and then, as a program that is killed
does: after a break it asks again from an older place and gets some events twice. What must hold on
one connection, that numbers go up by one after the place, is checked as the events come.
"""

from __future__ import annotations

import contextlib
import http
import http.client
import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode

import grpc

from tests.helpers.goipay_client import RECONNECT
from tests.helpers.google_messages import google_class
from tests.helpers.process import wait_until

REMEMBER_EVERY = 400
RETRY_S = 0.05
TIMEOUT_S = 30
WATCH = "/tally.v1.InvoiceService/WatchInvoices"
PAGE = 1000


class Told(NamedTuple):
    """One event, as any channel tells it."""

    seq: int
    id: str
    type: str
    invoice_id: str
    user_id: str
    data: Any


def told(event: dict[str, Any]) -> Told:
    """From the JSON that REST, server-sent events and the poller share."""
    return Told(*(event[name] for name in Told._fields))


def whole_log(ask: Callable[[str], tuple[int, Any]]) -> list[Told]:
    """All that is recorded, from the beginning; `ask` gets a path and answers status and body."""
    log: list[Told] = []
    while True:
        after = log[-1].seq if log else 0
        status, page = ask(f"/v1/events?after={after}&limit={PAGE}")
        assert status == http.HTTPStatus.OK, page
        if not page["items"]:
            return log
        log += map(told, page["items"])


class LogReader(ABC, threading.Thread):
    """Collects events until stopped."""

    def __init__(
        self,
        name: str,
        *,
        filters: dict[str, str] | None = None,
        remember_every: int = REMEMBER_EVERY,
    ) -> None:
        """With `remember_every` 1 it goes on exactly where it was, and gets nothing twice."""
        super().__init__(name=name, daemon=True)
        self.filters = filters or {}
        self._remember_every = remember_every
        self.breaks = 0
        """Connections that ended."""
        self.problem: BaseException | None = None
        self.raw: list[Told] = []
        """Everything, duplicates included."""
        self._place = 0
        self._stopped = threading.Event()

    @property
    def seq(self) -> int:
        return self.raw[-1].seq if self.raw else 0

    def unique(self) -> list[Told]:
        """What is left after de-duplication by id, in the order of first coming."""
        found: dict[str, Told] = {}
        for event in self.raw:
            assert found.setdefault(event.id, event) == event, self.name
        return list(found.values())

    def stop(self) -> None:
        self._stopped.set()
        self.hang_up()

    def run(self) -> None:
        try:
            while not self._stopped.is_set():
                try:
                    self._take(self.events(self._place))
                except (OSError, http.client.HTTPException, grpc.RpcError) as error:
                    if isinstance(error, grpc.RpcError) and not is_passing(error):
                        raise
                self.breaks += 1
                self._stopped.wait(RETRY_S)
        except BaseException as error:
            if not self._stopped.is_set():
                self.problem = error
                raise

    def _take(self, events: Iterable[Told]) -> None:
        before = self._place
        for number, event in enumerate(events, 1):
            if self.filters:
                assert event.seq > before, (self.name, event, before)
            else:
                assert event.seq == before + 1, (self.name, event, before)
            before = event.seq
            self.raw.append(event)
            if number % self._remember_every == 0:
                self._place = event.seq

    @abstractmethod
    def events(self, after_seq: int) -> Iterator[Told]:
        """The events of one connection, until it breaks."""

    @abstractmethod
    def hang_up(self) -> None:
        """Called from another thread: end what is waited for."""


def is_passing(error: grpc.RpcError) -> bool:
    return error.code() in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    )


class StreamReader(LogReader):
    """tally.v1's stream, with grpcio and Google's messages."""

    def __init__(self, name: str, port: int, **options: Any) -> None:
        super().__init__(name, **options)
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=RECONNECT)

    def events(self, after_seq: int) -> Iterator[Told]:
        request = google_class("tally.v1.WatchInvoicesRequest")(after_seq=after_seq, **self.filters)
        watch = self._channel.unary_stream(
            WATCH,
            request_serializer=lambda one: one.SerializeToString(),
            response_deserializer=google_class("tally.v1.WatchInvoicesResponse").FromString,
        )
        for answer in watch(request):
            for event in answer.events:
                yield Told(
                    event.seq,
                    event.id,
                    event.type,
                    event.invoice_id,
                    event.user_id,
                    json.loads(event.data),
                )

    def hang_up(self) -> None:
        self._channel.close()


class _HttpReader(LogReader):
    def __init__(self, name: str, port: int, **options: Any) -> None:
        super().__init__(name, **options)
        self._port = port
        self._connection: http.client.HTTPConnection | None = None

    def hang_up(self) -> None:
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(2)

    def _connect(self) -> http.client.HTTPConnection:
        self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)
        return self._connection

    def _get(
        self, connection: http.client.HTTPConnection, headers: dict[str, str], **query: Any
    ) -> http.client.HTTPResponse:
        asked = urlencode({**self.filters, **query})
        connection.request("GET", f"/v1/events?{asked}", headers=headers)
        answer = connection.getresponse()
        if answer.status == http.HTTPStatus.SERVICE_UNAVAILABLE:
            raise ConnectionError("not now")
        assert answer.status == http.HTTPStatus.OK, (self.name, answer.status, answer.read())
        return answer


class EventSource(_HttpReader):
    """Server-sent events, read as the HTML standard says."""

    def events(self, after_seq: int) -> Iterator[Told]:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after_seq)}
        with contextlib.closing(self._connect()) as connection:
            fields: dict[str, str] = {}
            for line in self._get(connection, headers):
                if not line.endswith(b"\n"):
                    break  # cut off: what is not complete does not count
                if line != b"\n":
                    name, _, value = line.decode().rstrip("\n").partition(":")
                    fields[name] = value.removeprefix(" ")  # a comment's name is empty
                    continue
                if fields.get("event") == "error":
                    break  # too slow: the place stays where it is
                if "data" in fields:
                    event = told(json.loads(fields["data"]))
                    assert fields["id"] == event.id
                    assert fields.get("event", event.type) == event.type
                    yield event
                fields = {}


class Poller(_HttpReader):
    """Pages of JSON; asks again at once after a page, and after a little when there was none."""

    def events(self, after_seq: int) -> Iterator[Told]:
        with contextlib.closing(self._connect()) as connection:
            while not self._stopped.is_set():
                answer = self._get(connection, {}, after=after_seq, limit=PAGE)
                page = json.loads(answer.read())["items"]
                yield from map(told, page)
                if page:
                    after_seq = page[-1]["seq"]
                else:
                    self._stopped.wait(RETRY_S)


def drain(reader: LogReader, wanted: list[Told], *, within_s: float) -> None:
    """Wait until the reader has come as far, and compare."""

    def has_it() -> bool:
        assert reader.problem is None, (reader.name, reader.problem)
        return reader.seq >= wanted[-1].seq

    wait_until(has_it, f"{reader.name} has {len(wanted)} events", timeout_s=within_s)
    assert reader.unique() == wanted, reader.name
    print(f"{reader.name}: {len(reader.raw)} events, {reader.breaks} breaks")
