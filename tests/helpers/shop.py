"""A merchant at a real daemon, the customers at a real node, and what must be true of both."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from bip_utils import Bip32Slip10Secp256k1

from tests.helpers.bitcoind import COIN_BASE, BitcoinNode, coins
from tests.helpers.daemon import Daemon
from tests.helpers.goipay_client import GoiPay, StatusStream, Update
from tests.helpers.process import ServerError, wait_until

Json = dict[str, Any]
STATUSES = {"PENDING": 0, "PENDING_MEMPOOL": 1, "EXPIRED": 2, "CONFIRMED": 3}
KEYS_GIVEN: set[str] = set()
"""Every key that a test gave to a daemon of this run: none may be found in a log."""
API_KEY = re.compile(r"tk_[0-9A-Za-z]{8}_[0-9A-Za-z]+")


def new_key() -> str:
    """A fresh account's extended public key."""
    account = Bip32Slip10Secp256k1.FromSeed(secrets.token_bytes(32)).DerivePath("m/84'/1'/0'")
    key = str(account.PublicKey().ToExtended())
    KEYS_GIVEN.add(key)
    return key


def leaks(text: str, daemon: Daemon) -> list[str]:
    """The secrets of this run that `text` holds, shortened."""
    hidden = {*KEYS_GIVEN, *(node.password for node in daemon.nodes)}
    for name, value in daemon.extra_env.items():
        if name.endswith("_PASS"):
            hidden.add(value)
        if name == "TALLY_DATABASE_URL" and "@" in value:
            hidden.add(value.rpartition("@")[0].rpartition(":")[2])
    hidden.update(API_KEY.findall(text))
    return [f"{secret[:8]}…" for secret in hidden - {""} if secret in text]


class Shop:
    """One user of a daemon, with a key for the node's coin."""

    def __init__(
        self, daemon: Daemon, node: BitcoinNode, client: GoiPay, stream: StatusStream | None
    ) -> None:
        self.daemon = daemon
        self.node = node
        self.client = client
        self.stream = stream
        self.user_id = client.register()
        client.set_keys(self.user_id, **{node.family: new_key()})

    def sell(self, amount_base: int, *, timeout_s: int = 3600, confirmations: int = 1) -> Ticket:
        created = self.client.create(
            self.user_id,
            self.node.family,
            amount_base,
            timeout_s=timeout_s,
            confirmations=confirmations,
        )
        return Ticket(self, created.id, created.address, amount_base)


@dataclass(frozen=True, slots=True)
class Ticket:
    """One invoice, seen from every side."""

    shop: Shop
    id: str
    address: str
    amount_base: int

    # --- the customer ---

    def pay(self, amount_base: int | None = None) -> str:
        wanted = self.amount_base if amount_base is None else amount_base
        return self.shop.node.pay(self.address, wanted)

    # --- the merchant ---

    def heard(
        self, wanted: str | Callable[[list[Update]], bool], *, within_s: float = 30.0
    ) -> list[Update]:
        """Wait for the stream; returns all that it told of this invoice."""
        assert self.shop.stream is not None
        return self.shop.stream.until(self.id, wanted, within_s=within_s)

    def told(self) -> list[str]:
        assert self.shop.stream is not None
        return self.shop.stream.statuses(self.id)

    def rest(self) -> Json:
        status, _, document = self.shop.daemon.http("GET", f"/v1/invoices/{self.id}")
        assert status == 200, document
        return document

    def until(self, wanted: Callable[[Json], bool], what: str, *, timeout_s: float = 30.0) -> Json:
        """Poll REST until the invoice is as wanted."""
        last: Json = {}

        def probe() -> Json | None:
            nonlocal last
            last = self.rest()
            return last if wanted(last) else None

        try:
            return wait_until(probe, what, timeout_s=timeout_s)
        except ServerError as error:
            raise ServerError(f"{error}; it is {last}, from {self.events()}") from None

    def until_status(self, status: str) -> Json:
        return self.until(lambda one: one["status"] == status, f"invoice {self.id} is {status}")

    def events(self) -> list[Json]:
        status, _, document = self.shop.daemon.http("GET", f"/v1/invoices/{self.id}/events")
        assert status == 200, document
        return document["items"]

    def kinds(self) -> list[str]:
        return [event["type"] for event in self.events()]

    # --- what is always true ---

    def check(self) -> Json:
        """The three ways to look say the same, and every fact was recorded once. Returns REST's."""
        before = self.rest()
        (wire,) = self.shop.client.get(self.id)
        after = self.rest()
        if before["version"] != after["version"]:
            return self.check()
        assert wire.id == before["id"] == self.id
        assert wire.address == before["address"] == self.address
        assert wire.user_id == before["user_id"] == self.shop.user_id
        assert wire.coin == before["asset"] == self.shop.node.family.upper()
        assert wire.status == before["status"]
        assert wire.required_base == int(before["amount_base"]) == self.amount_base
        assert wire.actual_base == int(before["received_base"])
        assert wire.txid == (before["txid"] or "")
        assert wire.confirmations == before["confirmations_required"]
        assert instant(wire.created_at.timestamp()) == before["created_at"]
        assert instant(wire.expires_at.timestamp()) == before["expires_at"]
        assert (wire.confirmed_at is None) == (before["confirmed_at"] is None)
        for name in ("amount", "received", "credited", "confirmed", "due"):
            assert Decimal(before[name]) * COIN_BASE == int(before[f"{name}_base"]), name
        there = [one for one in before["payments"] if one["state"] in ("mempool", "included")]
        assert sum(int(one["amount_base"]) for one in there) == int(before["received_base"])
        check_history(self.events(), before)
        return before


def instant(at_s: float) -> str:
    """As REST writes it."""
    ms = round(at_s * 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms // 1000)) + f".{ms % 1000:03}Z"


def check_history(events: Sequence[Json], invoice: Json) -> None:
    """Nothing twice, nothing out of its turn, and folded it is what REST shows."""
    assert [event["version"] for event in events] == list(range(1, len(events) + 1))
    assert invoice["version"] == len(events)
    seqs = [event["seq"] for event in events]
    assert seqs == sorted(set(seqs))
    assert events[0]["type"] == "invoice.created"
    places: dict[str, str] = {}
    status, reversed_ = "PENDING", False
    once = ["invoice.created", "invoice.settled", "invoice.expired", "invoice.deadline_reached"]
    for kind in once:
        assert sum(event["type"] == kind for event in events) <= 1, kind
    for event in events[1:]:
        kind = event["type"]
        if kind.startswith("payment."):
            outpoint = "{}:{}".format(*event["data"]["outpoint"])
            came_from, goes_to = _MOVES[kind]
            assert places.get(outpoint, "nowhere") in came_from, (kind, outpoint, events)
            is_rivalled = event["data"].get("reason") == "contested"
            places[outpoint] = "contested" if is_rivalled else goes_to
        elif kind in _TURNS:
            came_from, goes_to = _TURNS[kind]
            assert status in came_from, (kind, status, events)
            status = goes_to
        elif kind in ("invoice.reversed", "invoice.restored"):
            assert reversed_ == (kind == "invoice.restored")
            reversed_ = kind == "invoice.reversed"
    assert status == invoice["status"]
    assert reversed_ == invoice["flags"]["reversed"]
    # What is stored is plain hexadecimal; people write 0x before it on some chains.
    shown = {
        one["outpoint"].removeprefix("0x"): _PLACES.get(one["state"], "gone")
        for one in invoice["payments"]
    }
    assert shown == {
        outpoint: "gone" if place == "contested" else place for outpoint, place in places.items()
    }


_MOVES = {
    "payment.seen": (("nowhere", "gone", "contested"), "mempool"),
    "payment.included": (("nowhere", "mempool", "gone", "contested"), "block"),
    "payment.disconnected": (("block",), "mempool"),
    # A rival that was only seen may be what a block, or the mempool, then has.
    "payment.displaced": (("mempool", "contested"), "gone"),
    "payment.unlocked": (("block",), "block"),
}
_TURNS = {
    "invoice.covered": (("PENDING",), "PENDING_MEMPOOL"),
    "invoice.uncovered": (("PENDING_MEMPOOL",), "PENDING"),
    "invoice.settled": (("PENDING_MEMPOOL",), "CONFIRMED"),
    "invoice.expired": (("PENDING",), "EXPIRED"),
}
_PLACES = {"mempool": "mempool", "included": "block"}


def check_log(daemon: Daemon) -> int:
    """The daemon's whole event log is dense and in order; returns its length."""
    seqs: list[int] = []
    cursor = ""
    while True:
        status, _, page = daemon.http("GET", f"/v1/invoices?limit=100{cursor}")
        assert status == 200, page
        for invoice in page["items"]:
            path = f"/v1/invoices/{invoice['id']}/events"
            seqs += [event["seq"] for event in daemon.http("GET", path)[2]["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert sorted(seqs) == list(range(1, len(seqs) + 1))
    return len(seqs)


def pay_many(node: BitcoinNode, payments: Mapping[str, int]) -> str:
    """One transaction that pays to all these addresses; returns its txid."""
    amounts = {address: float(coins(base)) for address, base in payments.items()}
    return str(node.rpc("sendmany", "", amounts))


def block_of(node: BitcoinNode, txid: str) -> tuple[int, str]:
    """Height and hash of the block that holds the wallet's transaction."""
    block_hash = node.rpc("gettransaction", txid)["blockhash"]
    return int(node.rpc("getblockheader", block_hash)["height"]), str(block_hash)


def let_time_catch_up(nodes: Iterable[BitcoinNode]) -> None:
    """Wait until no tip's timestamp is ahead of the clock, as it is after many quick blocks."""
    for node in nodes:
        wait_until(
            lambda node=node: node.rpc("getblockheader", node.tip())["time"] < time.time(),
            "the chain's time is not in the future",
        )
