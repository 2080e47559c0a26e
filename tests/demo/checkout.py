"""A sale on a payment page: a merchant with a wallet and a key, one order, and who pays for it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

from tests.demo.wares import account_key
from tests.helpers.bitcoind import COIN_BASE, BitcoinNode
from tests.helpers.daemon import Daemon
from tests.helpers.process import ServerError, wait_until

Json = dict[str, Any]
AMOUNT_BASE = COIN_BASE // 200
TIMEOUT_S = 30.0


class Checkout:
    """One order for bitcoin, and its page."""

    def __init__(self, daemon: Daemon) -> None:
        """Set the merchant up, and create the order as a shop's site would."""
        self._daemon = daemon
        user_id = self._ask("POST", "/v1/users", {})["id"]
        self._ask("PUT", f"/v1/users/{user_id}/brand", {"name": "Demo", "colour": "#0f766e"})
        wallet = self._ask(
            "POST",
            f"/v1/users/{user_id}/wallets",
            {
                "name": "demo",
                "keys": {"btc": account_key()},
                "assets": [{"asset": "BTC", "confirmations": 1, "expires_in_s": 3600}],
            },
        )
        key = self._ask("POST", "/v1/keys", {"name": "demo", "scopes": ["write"]})["key"]
        order = self._ask(
            "POST",
            "/apis/pg/create_order",
            {
                "merchant_order_id": secrets.token_hex(8),
                "asset_name": "BTC",
                "target_value": str(AMOUNT_BASE),
                "pg_wallet_id": str(wallet["id"]),
                "description": "A page to look at",
            },
            {"apikey": key},
        )["order"]
        self.page = str(order["redirect_url"])
        self._id, self._address = order["id"], order["variants"][0]

    def pay(self, node: BitcoinNode, say: Callable[[str], None], *, pause_s: float) -> None:
        """Half, the rest, a block, with time to look between; returns when the order is final."""
        for part_base in (AMOUNT_BASE // 2, AMOUNT_BASE - AMOUNT_BASE // 2):
            time.sleep(pause_s)
            node.pay(self._address, part_base)
            say(f"a customer sends {part_base / COIN_BASE:g} BTC")
        self._until("CONFIRMING")
        time.sleep(pause_s)
        node.mine()
        self._until("SUCCESSFUL")
        say("the order is SUCCESSFUL")

    def _until(self, status: str) -> None:
        def has_come() -> bool:
            path = f"/apis/pg/get_public_order?id={self._id}"
            return bool(self._ask("GET", path)["order"]["status"] == status)

        wait_until(has_come, f"the order is {status}", timeout_s=TIMEOUT_S)

    def _ask(
        self, method: str, path: str, body: Json | None = None, headers: Json | None = None
    ) -> Json:
        status, _, answer = self._daemon.http(method, path, body, headers or {})
        if status >= 400:
            raise ServerError(f"{method} {path} was answered with {status}: {answer}")
        return dict(answer)
