"""The process of shops and customers: invoices over three wires, and what is paid for them.

Each invoice is a generator that says how long its customer waits before the next act; a few threads
take whatever is due.
"""

from __future__ import annotations

import contextlib
import heapq
import http.client
import itertools
import json
import random
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import grpc

from tests.helpers.bitcoin_rpc import RpcClient, RpcError
from tests.helpers.google_messages import google_class
from tests.load.customers import (
    AFTER_DEADLINE_S,
    BEFORE_DEADLINE_S,
    EVENTS_PER_INVOICE,
    Habit,
    Payment,
    Story,
)
from tests.load.purse import Coin, Purse, Signed, script_of
from tests.load.team import Board, Count, Faults, Merchant

WIRES = ("GoiPay", "tally.v1", "REST")
TIMEOUT_S = 30
_THREADS = 32
_COIN = 100_000_000
_BTC = 1
_REFUSED_AS_MINED = (-25, -26, -27)
"""A replacement that came after the block with what it replaces: its input is spent."""

Life = Generator[float, None, None]


@dataclass(frozen=True)
class Town:
    """What the process needs to know of the others."""

    grpc_port: int
    http_port: int
    rpc_port: int
    rpc_login: str
    secret: bytes
    coins: Sequence[Coin]
    merchants: Sequence[Merchant]
    rate_per_s: float
    seed: int


@dataclass
class ShopReport:
    stories: list[Story]
    """Every invoice that was given out, with what was paid for it."""
    create_ms: dict[str, list[tuple[int, float]]]
    """By wire: (CLOCK_MONOTONIC in ns, milliseconds)."""
    late_ms: list[float]
    """By how much each act came later than it should: what the driver itself was short of."""
    bumps_too_late: int


def work(report: Connection, board: Board, town: Town) -> None:
    """Says "ready"; then takes "go", ("block", txids) and "stop"; answers with a ShopReport."""
    faults = Faults(board, Count.SHOP_FAULTS)
    agenda = _Agenda(faults)
    with contextlib.closing(_Counter(town)) as counter:
        street = _Street(town, counter, board, faults)
        threads = [threading.Thread(target=agenda.serve, daemon=True) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        report.send("ready")
        assert report.recv() == "go"
        open_ = threading.Event()
        opener = threading.Thread(target=_open_shops, args=(town, street, agenda, open_))
        opener.start()
        while (order := report.recv()) != "stop":
            street.confirmed(order[1])
        open_.set()
        opener.join()
        while not agenda.done():
            if report.poll(0.05):
                street.confirmed(report.recv()[1])
        agenda.close()
        report.send(
            ShopReport(
                [one for one in street.stories if one.invoice_id],
                counter.took_ms,
                agenda.late_ms,
                street.bumps_too_late,
            )
        )
        report.send((faults.counts, faults.words))


def _open_shops(town: Town, street: _Street, agenda: _Agenda, closed: threading.Event) -> None:
    """A new customer as often as makes the rate of events."""
    every_s = EVENTS_PER_INVOICE / town.rate_per_s
    began = time.monotonic()
    for number in itertools.count():
        at = began + number * every_s
        if closed.wait(max(0, at - time.monotonic())):
            return
        agenda.add(at, street.life(number))


class _Agenda:
    """What is due when; `serve` runs in several threads."""

    def __init__(self, faults: Faults) -> None:
        self.late_ms: list[float] = []
        self._faults = faults
        self._due: list[tuple[float, int, Life]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._busy = 0
        self._closed = False

    def add(self, at: float, life: Life) -> None:
        with self._changed:
            heapq.heappush(self._due, (at, next(self._numbers), life))
            self._changed.notify()

    def done(self) -> bool:
        with self._changed:
            return not self._due and not self._busy

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def serve(self) -> None:
        while (taken := self._take()) is not None:
            at, life = taken
            self.late_ms.append((time.monotonic() - at) * 1000)
            try:
                wait_s = next(life, None)
                if wait_s is not None:
                    self.add(time.monotonic() + wait_s, life)
            except Exception as error:  # noqa: BLE001 - one customer's trouble is not the others'
                self._faults.add(f"driver: {type(error).__name__}", repr(error))
            finally:
                with self._changed:
                    self._busy -= 1

    def _take(self) -> tuple[float, Life] | None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                if self._due and self._due[0][0] <= now:
                    at, _, life = heapq.heappop(self._due)
                    self._busy += 1
                    return at, life
                self._changed.wait(self._due[0][0] - now if self._due else None)
        return None


class _Counter:
    """Where shops create invoices: three wires, each timed."""

    def __init__(self, town: Town) -> None:
        self._port = town.http_port
        self.took_ms: dict[str, list[tuple[int, float]]] = {wire: [] for wire in WIRES}
        self._channel = grpc.insecure_channel(f"127.0.0.1:{town.grpc_port}")
        self._goipay = self._method("invoice.v1", "CreateInvoice")
        self._tally = self._method("tally.v1", "CreateInvoice")

    def close(self) -> None:
        self._channel.close()

    def create(self, wire: str, merchant: Merchant, story: Story) -> tuple[str, str]:
        """Id and address."""
        make = {"GoiPay": self._by_goipay, "tally.v1": self._by_tally, "REST": self._by_rest}[wire]
        began = time.monotonic_ns()
        found = make(merchant, story)
        self.took_ms[wire].append((began, (time.monotonic_ns() - began) / 1e6))
        return found

    def _method(self, package: str, rpc: str) -> Any:
        return self._channel.unary_unary(
            f"/{package}.InvoiceService/{rpc}",
            request_serializer=lambda one: one.SerializeToString(),
            response_deserializer=google_class(f"{package}.{rpc}Response").FromString,
        )

    def _by_goipay(self, merchant: Merchant, story: Story) -> tuple[str, str]:
        request = google_class("invoice.v1.CreateInvoiceRequest")(
            userId=merchant.user_id,
            coin=_BTC,
            amount=story.price_base / _COIN,
            timeout=story.deadline_s,
            confirmations=story.confirmations,
        )
        metadata = (("authorization", merchant.bearer),)
        made = self._goipay(request, timeout=TIMEOUT_S, metadata=metadata)
        return made.paymentId, made.address

    def _by_tally(self, merchant: Merchant, story: Story) -> tuple[str, str]:
        request = google_class("tally.v1.CreateInvoiceRequest")(
            user_id=merchant.user_id,
            asset="BTC",
            amount_base=str(story.price_base),
            ttl={"seconds": story.deadline_s},
            confirmations=story.confirmations,
            metadata={"order": f"T-{story.number}"},
            idempotency_key=f"order-{story.number}",
        )
        metadata = (("authorization", merchant.bearer),)
        made = self._tally(request, timeout=TIMEOUT_S, metadata=metadata).invoice
        return made.id, made.address

    def _by_rest(self, merchant: Merchant, story: Story) -> tuple[str, str]:
        body = {
            "user_id": merchant.user_id,
            "asset": "BTC",
            "amount_base": str(story.price_base),
            "expires_in": story.deadline_s,
            "confirmations": story.confirmations,
            "metadata": {"order": f"R-{story.number}"},
        }
        headers = {
            "Authorization": merchant.bearer,
            "Content-Type": "application/json",
            "Idempotency-Key": f"order-{story.number}",
        }
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)
        with contextlib.closing(connection):
            connection.request("POST", "/v1/invoices", json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        if answer.status != http.client.CREATED:
            raise http.client.HTTPException(f"{answer.status}: {text[:300]!r}")
        made = json.loads(text)
        return made["id"], made["address"]


class _Street:
    """The customers."""

    def __init__(self, town: Town, counter: _Counter, board: Board, faults: Faults) -> None:
        self.stories: list[Story] = []
        self.bumps_too_late = 0
        self._town = town
        self._counter = counter
        self._board = board
        self._faults = faults
        self._purse = Purse(town.secret, town.coins)
        self._rpc = RpcClient(town.rpc_port, lambda: town.rpc_login)
        self._lock = threading.Lock()

    def confirmed(self, txids: Sequence[str]) -> None:
        for txid in txids:
            self._purse.confirmed(txid)

    def life(self, number: int) -> Life:
        """All of one invoice; each value is how many seconds pass until the next act."""
        chance = random.Random(f"{self._town.seed} {number}")
        story = Story.draw(number, chance)
        merchants = self._town.merchants
        merchant = merchants[chance.randrange(len(merchants))]
        wire = WIRES[number % len(WIRES)]
        story.invoice_id, address = self._counter.create(wire, merchant, story)
        closes = time.monotonic() + story.deadline_s
        with self._lock:
            self.stories.append(story)
            self._board[Count.CREATED] += 1
        script = script_of(address)
        yield chance.uniform(0.2, 3.0)
        if story.habit is Habit.LATE:
            yield closes + AFTER_DEADLINE_S - time.monotonic()
        elif time.monotonic() > closes - BEFORE_DEADLINE_S:
            return  # held up for so long that nobody can say whether it would be in time
        for share_base in story.shares(chance):
            paid = self._pay(story, script, share_base, in_time=story.habit is not Habit.LATE)
            for _ in range(chance.choice((1, 2)) if story.habit is Habit.BUMP else 0):
                yield chance.uniform(0.4, 1.2)
                higher = self._bump(story, paid, script, share_base)
                if higher is None:
                    break
                paid = higher
            yield chance.uniform(0.3, 3.0)

    def _pay(self, story: Story, script: bytes, amount_base: int, *, in_time: bool) -> Signed:
        signed = self._purse.pay(script, amount_base)
        self._hand_over(story, signed, amount_base, in_time=in_time)
        return signed

    def _bump(self, story: Story, old: Signed, script: bytes, amount_base: int) -> Signed | None:
        """None when a block came first."""
        signed = self._purse.bump(old, script, amount_base)
        before = story.payments[-1]
        try:
            self._hand_over(story, signed, amount_base, in_time=before.in_time)
        except RpcError as error:
            if error.code not in _REFUSED_AS_MINED:
                raise
            with self._lock:
                self.bumps_too_late += 1
            return None
        before.replaced_by = signed.txid
        self._purse.replaced(old)
        return signed

    def _hand_over(self, story: Story, signed: Signed, amount_base: int, *, in_time: bool) -> None:
        handed_ns = time.monotonic_ns()
        txid = self._rpc.call("sendrawtransaction", signed.raw, 0)
        assert txid == signed.txid
        self._purse.sent(signed)
        with self._lock:
            self._board[Count.PAID] += 1
        story.payments.append(Payment(txid, amount_base, handed_ns, in_time))
