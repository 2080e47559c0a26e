"""Merchants at a real daemon that sell for Monero, and their customers' wallet."""

from __future__ import annotations

from tests.helpers.daemon import Daemon
from tests.helpers.evm_market import Market, Sale
from tests.helpers.goipay_client import Created, GoiPay, StatusStream, enum_number
from tests.helpers.monero_coinbase import base_times, new_scalar
from tests.helpers.monero_wallet import MoneroWallet
from tests.helpers.monerod import COIN_BASE, MoneroNode
from tests.helpers.process import wait_until
from tests.helpers.shop import KEYS_GIVEN


class MoneroShop(Market):
    """One user with the keys of a fresh wallet. Sales are paid from `wallet`."""

    def __init__(
        self, daemon: Daemon, wallet: MoneroWallet, client: GoiPay, stream: StatusStream
    ) -> None:
        self.daemon = daemon
        self.wallet = wallet
        self.nodes = {"xmr": wallet}  # type: ignore[dict-item]
        self.client = client
        self.stream = stream
        self.user_id = client.register()
        self.view_key = new_scalar()
        self.spend_key = base_times(new_scalar())
        KEYS_GIVEN.add(self.view_key.hex())
        client.set_keys(self.user_id, xmr=f"{self.view_key.hex()}:{self.spend_key.hex()}")

    def sell_xmr(self, amount_base: int, **terms: object) -> Sale:
        """An invoice over REST; by default it needs 1 confirmation."""
        return self.sell("XMR", amount_base, **terms)

    def sell_by_goipay(self, amount_base: int, *, confirmations: int = 1) -> Sale:
        """The same as a GoiPay client does it."""
        answer = self.client.call(
            "CreateInvoice",
            userId=self.user_id,
            coin=enum_number("crypto.v1.CoinType", "XMR"),
            amount=amount_base / COIN_BASE,
            timeout=3600,
            confirmations=confirmations,
        )
        created = Created(answer.paymentId, answer.address)
        return Sale(self, created.id, created.address, "XMR", "xmr", amount_base)


def until_read(daemon: Daemon, node: MoneroNode) -> None:
    """Wait until the daemon has read the node's tip."""

    def is_read() -> bool:
        chain = daemon.http("GET", "/readyz")[2]["chains"]["xmr"]
        return chain["state"] == "current" and chain["height"] == node.height()

    wait_until(is_read, "the daemon has read the chain", timeout_s=60)
