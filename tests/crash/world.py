"""Merchants and customers of a story: what they do to the daemon and to the chains, by chance."""

from __future__ import annotations

import http.client
import itertools
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from tests.crash.coins import Coin
from tests.helpers.daemon import Daemon
from tests.helpers.goipay_client import GoiPay
from tests.helpers.shop import new_key

AMOUNTS_BASE = (20_000, 3_000_000)
"""In the chain's `unit_base`."""
FLEETING_S = 10
"""The deadline of an invoice that nobody pays."""
BREAKS = (OSError, http.client.HTTPException, grpc.RpcError)
"""What a client sees when the daemon dies."""


@dataclass(frozen=True)
class Mix:
    """How much there is of what makes the daemon wait half a minute before it believes it."""

    away: float = 0.3
    """Of replacements, those that pay somebody else."""
    dated: float = 0.1
    """Of payments, those that a reorg may drop."""


@dataclass
class Sold:
    """An invoice that a merchant was told of, and what its customers sent."""

    id: str
    address: str
    coin: Coin
    amount_base: int
    confirmations: int
    fleeting: bool = False
    paid: dict[str, int] = field(default_factory=dict)
    """txid → base units."""


@dataclass
class Wish:
    """A request with an idempotency key; it is repeated until it is answered."""

    key: str
    coin: Coin
    amount_base: int
    confirmations: int
    body: dict[str, Any]


class World:
    """One user of the daemon with keys for all coins, and everybody who buys."""

    def __init__(
        self, daemon: Daemon, coins: Sequence[Coin], chance: random.Random, mix: Mix
    ) -> None:
        self.daemon = daemon
        self.coins = list(coins)
        self.sold: list[Sold] = []
        self.wishes: list[Wish] = []
        """Not answered yet."""
        self.ordered: dict[str, str] = {}
        """Idempotency key → invoice, of answered wishes."""
        self.counts: Counter[str] = Counter()
        self.fleeting_until_round = 0
        self._chance = chance
        self._mix = mix
        self._user_id = ""
        self._numbers = itertools.count(1)

    def register(self, client: GoiPay) -> None:
        self._user_id = client.register()
        # Over REST, which knows the keys of every chain.
        keys = {coin.family: new_key() for coin in self.coins}
        path = f"/v1/users/{self._user_id}/keys"
        status, _, answer = self.daemon.http("PUT", path, keys)
        assert status in (200, 204), answer

    def act(self, client: GoiPay | None, *, round_number: int) -> None:
        """One thing that happens; without a client the daemon is down."""
        kind = self._chance.random()
        coin = self._chance.choice(self.coins)
        if client is not None and (kind < 0.45 or not self.sold):
            self._sell(client, coin, fleeting=round_number < self.fleeting_until_round)
        elif kind < 0.65:
            self._pay_again()
        elif kind < 0.75:
            self._replace()
        elif kind < 0.93:
            coin.mine(self._chance.randint(1, 2))
            self.counts["blocks mined"] += 1
        elif coin.reorg():
            self.counts["reorgs"] += 1

    # --- merchants ---

    def _sell(self, client: GoiPay, coin: Coin, *, fleeting: bool) -> None:
        amount_base = self._chance.randrange(*AMOUNTS_BASE) * coin.unit_base
        confirmations = self._chance.choice((0, 1, 1, 2))
        if fleeting and self._chance.random() < 0.1:
            self._sell_by_grpc(client, coin, amount_base, confirmations, FLEETING_S)
            return
        if self._chance.random() < 0.5:
            self._sell_by_grpc(client, coin, amount_base, confirmations, 3600)
        else:
            self._wish(coin, amount_base, confirmations)
            self.repeat_wishes()

    def _sell_by_grpc(
        self, client: GoiPay, coin: Coin, amount_base: int, confirmations: int, timeout_s: int
    ) -> None:
        try:
            created = client.create(
                self._user_id,
                coin.family,
                amount_base // coin.unit_base,
                timeout_s=timeout_s,
                confirmations=confirmations,
            )
        except grpc.RpcError:
            return  # the daemon is down; whether the invoice exists is nobody's concern
        fleeting = timeout_s == FLEETING_S
        self._take(
            Sold(created.id, created.address, coin, amount_base, confirmations, fleeting=fleeting)
        )

    def _wish(self, coin: Coin, amount_base: int, confirmations: int) -> None:
        self.wishes.append(self._new_wish(coin, amount_base, confirmations))

    def _new_wish(self, coin: Coin, amount_base: int, confirmations: int) -> Wish:
        key = f"order-{next(self._numbers)}"
        body = {
            "user_id": self._user_id,
            "asset": coin.asset,
            "amount_base": str(amount_base),
            "expires_in": 3600,
            "confirmations": confirmations,
            "metadata": {"order": key},
        }
        return Wish(key, coin, amount_base, confirmations, body)

    def order_now(self) -> None:
        """One order, while the daemon is about to be killed: in a thread of its own."""
        coin = self.coins[0]
        wish = self._new_wish(coin, AMOUNTS_BASE[0] * coin.unit_base, 1)
        sold = self._ask(wish)
        if sold is None:
            self.wishes.append(wish)
        else:
            self.sold.append(sold)

    def repeat_wishes(self) -> None:
        """Ask for what was not answered, until the daemon dies again."""
        while self.wishes:
            sold = self._ask(self.wishes[0])
            if sold is None:
                return
            self.wishes.pop(0)
            self._take(sold)

    def _ask(self, wish: Wish) -> Sold | None:
        """None: nobody answered, or not yet."""
        headers = {"Idempotency-Key": wish.key}
        try:
            status, _, made = self.daemon.http("POST", "/v1/invoices", wish.body, headers)
        except (OSError, http.client.HTTPException):
            self.counts["requests cut off"] += 1
            return None
        if status == http.HTTPStatus.SERVICE_UNAVAILABLE:
            return None  # it has only just started
        assert status == http.HTTPStatus.CREATED, made
        self.ordered[wish.key] = made["id"]
        return Sold(made["id"], made["address"], wish.coin, wish.amount_base, wish.confirmations)

    # --- customers ---

    def _take(self, sold: Sold) -> None:
        """Of those who buy, most pay, and most of them what was asked for."""
        self.sold.append(sold)
        if not sold.fleeting and self._chance.random() < 0.8:
            share = self._chance.choice((1.0, 1.0, 1.0, 0.5, 1.25))
            self._pay(sold, share)

    def _pay(self, sold: Sold, share: float = 1.0) -> None:
        wanted = int(sold.amount_base * share)
        wanted -= wanted % sold.coin.unit_base
        sold.paid[sold.coin.pay(sold.address, wanted)] = wanted
        self.counts["payments"] += 1

    def _pay_again(self) -> None:
        there = [one for one in self.sold if not one.fleeting]
        if there:
            self._pay(self._chance.choice(there))

    def _replace(self) -> None:
        """Of something that waits; most of what was paid last does."""
        there = [(one, txid) for one in self.sold for txid in one.paid][-8:]
        if not there:
            return
        sold, txid = self._chance.choice(there)
        away = self._chance.random() < self._mix.away
        new = sold.coin.replace(txid, away=away)
        if new is not None:
            self.counts["replacements"] += 1
            if not away:
                sold.paid[new] = sold.paid[txid]
