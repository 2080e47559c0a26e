"""Merchants at a real daemon that sell for coins and tokens of EVM chains.

Amounts are in base units; invoices are made over REST, because GoiPay's floats do not hold wei.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tests.helpers.anvil import AnvilNode
from tests.helpers.daemon import Daemon
from tests.helpers.evm_assets import Token
from tests.helpers.goipay_client import GoiPay, StatusStream
from tests.helpers.process import wait_until
from tests.helpers.shop import Json, check_history, new_key


class Market:
    """One user with a key for each of the chains, and the chains' nodes."""

    def __init__(
        self, daemon: Daemon, nodes: Mapping[str, AnvilNode], client: GoiPay, stream: StatusStream
    ) -> None:
        """`nodes` by chain id of the catalogue: `eth`, `bnb`."""
        self.daemon = daemon
        self.nodes = dict(nodes)
        self.client = client
        self.stream = stream
        self.user_id = client.register()
        self.set_keys(**{chain: new_key() for chain in nodes})

    def set_keys(self, **keys: str) -> None:
        path = f"/v1/users/{self.user_id}/keys"
        status, _, document = self.daemon.http("PUT", path, keys)
        assert status in (200, 204), document

    def ask(self, asset: str, amount_base: int, **terms: Any) -> tuple[int, Json]:
        """Try to make an invoice; returns status and document."""
        body = {
            "user_id": self.user_id,
            "asset": asset,
            "amount_base": str(amount_base),
            "expires_in": 3600,
            "confirmations": 1,
            **terms,
        }
        body = {name: value for name, value in body.items() if value is not None}
        status, _, document = self.daemon.http("POST", "/v1/invoices", body)
        return status, document

    def sell(self, asset: str, amount_base: int, **terms: Any) -> Sale:
        status, document = self.ask(asset, amount_base, **terms)
        assert status == 201, document
        return Sale(
            self, document["id"], document["address"], asset, document["chain"], amount_base
        )


@dataclass(frozen=True, slots=True)
class Sale:
    """One invoice."""

    market: Market
    id: str
    address: str
    asset: str
    chain: str
    amount_base: int

    @property
    def node(self) -> AnvilNode:
        return self.market.nodes[self.chain]

    def pay(self, amount_base: int | None = None) -> str:
        """Pay natively; returns the transaction's hash as REST writes it."""
        wanted = self.amount_base if amount_base is None else amount_base
        return self.node.pay(self.address, wanted)

    def pay_token(self, token: Token, amount_base: int | None = None) -> str:
        wanted = self.amount_base if amount_base is None else amount_base
        return self.node.pay_token(token.contract, self.address, wanted)

    def heard(self, status: str, *, within_s: float = 20.0) -> list[str]:
        """Wait for GoiPay's stream; returns the statuses that it told of this invoice."""
        self.market.stream.until(self.id, status, within_s=within_s)
        return self.market.stream.statuses(self.id)

    def rest(self) -> Json:
        status, _, document = self.market.daemon.http("GET", f"/v1/invoices/{self.id}")
        assert status == 200, document
        return document

    def until(self, wanted: Callable[[Json], bool], what: str, *, timeout_s: float = 20.0) -> Json:
        """Poll REST until the invoice is as wanted."""

        def probe() -> Json | None:
            last = self.rest()
            return last if wanted(last) else None

        return wait_until(probe, f"{what}: {self.asset} invoice {self.id}", timeout_s=timeout_s)

    def check(self) -> Json:
        """All ways to look say the same, and every fact was recorded once. Returns REST's."""
        before = self.rest()
        (wire,) = self.market.client.get(self.id)
        events = self.events()
        if self.rest()["version"] != before["version"]:
            return self.check()
        assert (wire.address, wire.status) == (self.address, before["status"])
        assert wire.txid == (before["txid"] or "")
        assert before["asset"] == self.asset
        assert before["amount_base"] == str(self.amount_base)
        exponent = self.market.daemon.http("GET", "/v1/assets")[2]["items"]
        decimals = next(one["exponent"] for one in exponent if one["id"] == self.asset)
        for name in ("amount", "received", "credited", "confirmed", "due"):
            assert Decimal(before[name]).scaleb(decimals) == int(before[f"{name}_base"]), name
        there = [
            one
            for one in before["payments"]
            if one["asset"] == self.asset and one["state"] in ("mempool", "included")
        ]
        assert sum(int(one["amount_base"]) for one in there) == int(before["received_base"])
        check_history(events, before)
        return before

    def events(self) -> list[Json]:
        status, _, document = self.market.daemon.http("GET", f"/v1/invoices/{self.id}/events")
        assert status == 200, document
        return document["items"]

    def kinds(self) -> list[str]:
        return [event["type"] for event in self.events()]


def confirmed_by(txid: str) -> Callable[[Json], bool]:
    """Whether the invoice is CONFIRMED, with that transaction as its newest."""
    return lambda one: one["status"] == "CONFIRMED" and one["txid"] == txid
