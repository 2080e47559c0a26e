"""`make run`: regtest nodes, the daemon, one BTC and one LTC invoice paid before your eyes.

All is in .cache/demo and found again at the next start. With ONCE=1 it ends by itself,
with exit status 0 only if both invoices were CONFIRMED; otherwise it stays up until Ctrl-C.
"""

import asyncio
import contextlib
import os
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from bip_utils import Bip32Slip10Secp256k1
from grpclib.client import Channel

from proto.goipay.crypto.v1 import BtcKeysUpdateRequest, CoinType, LtcKeysUpdateRequest
from proto.goipay.invoice.v1 import (
    CreateInvoiceRequest,
    Invoice,
    InvoiceServiceStub,
    InvoiceStatusStreamRequest,
    InvoiceStatusType,
)
from proto.goipay.user.v1 import RegisterUserRequest, UpdateCryptoKeysRequest, UserServiceStub
from tests.helpers.bitcoind import COIN_BASE, BitcoinNode
from tests.helpers.daemon import ROOT, Daemon
from tests.helpers.process import ServerError

FOLDER = ROOT / ".cache" / "demo"
TIMEOUT_S = 120
PRICES = {CoinType.BTC: 0.015, CoinType.LTC: 2.5}
STARTED = time.monotonic()


def say(text: str) -> None:
    print(f"{time.monotonic() - STARTED:6.1f}s  {text}", flush=True)


@dataclass
class Shop:
    """The merchant's backend and, for once, its customers as well."""

    users: UserServiceStub
    invoices: InvoiceServiceStub
    nodes: dict[CoinType, BitcoinNode]

    async def open(self) -> str:
        """Register a user with a fresh account key; returns the user's id."""
        user_id = (await self.users.register_user(RegisterUserRequest())).user_id
        account = Bip32Slip10Secp256k1.FromSeed(secrets.token_bytes(32)).DerivePath("m/84'/1'/0'")
        xpub = account.PublicKey().ToExtended()
        await self.users.update_crypto_keys(
            UpdateCryptoKeysRequest(
                user_id=user_id,
                btc_req=BtcKeysUpdateRequest(master_pub_key=xpub),
                ltc_req=LtcKeysUpdateRequest(master_pub_key=xpub),
            )
        )
        say(f"registered user {user_id} with the account key {xpub[:16]}…")
        return user_id

    async def statuses(self) -> AsyncIterator[Invoice]:
        async for response in self.invoices.invoice_status_stream(InvoiceStatusStreamRequest()):
            assert response.invoice is not None
            yield response.invoice

    async def sell(self, user_id: str) -> None:
        """Create both invoices, pay them, mine, and show each status until both are CONFIRMED."""
        stream = self.statuses()
        waiting: dict[str, CoinType] = {}
        first = asyncio.ensure_future(anext(stream))
        for coin, price in PRICES.items():
            created = await self.invoices.create_invoice(
                CreateInvoiceRequest(
                    user_id=user_id, coin=coin, amount=price, timeout=3600, confirmations=1
                )
            )
            waiting[created.payment_id] = coin
        invoice = await first
        while waiting:
            if invoice.id in waiting:
                self.show(invoice)
                await self.act(invoice)
                if invoice.status is InvoiceStatusType.CONFIRMED:
                    del waiting[invoice.id]
            if waiting:
                invoice = await anext(stream)
        await stream.aclose()

    async def act(self, invoice: Invoice) -> None:
        """What customers and miners do next."""
        node = self.nodes[invoice.coin]
        if invoice.status is InvoiceStatusType.PENDING:
            price_base = round(invoice.required_amount * COIN_BASE)
            await asyncio.to_thread(node.pay, invoice.crypto_address, price_base)
        elif invoice.status is InvoiceStatusType.PENDING_MEMPOOL:
            await asyncio.to_thread(node.mine)

    @staticmethod
    def show(invoice: Invoice) -> None:
        status = InvoiceStatusType(invoice.status).name
        detail = f"tx {invoice.tx_id[:16]}…" if invoice.tx_id else invoice.crypto_address
        say(
            f"{CoinType(invoice.coin).name}  {status:<16} {invoice.actual_amount:g} of"
            f" {invoice.required_amount:g}  {detail}"
        )


@contextlib.contextmanager
def node(coin: CoinType) -> Iterator[BitcoinNode]:
    family = "btc" if coin is CoinType.BTC else "ltc"
    with BitcoinNode(family, datadir=FOLDER / family) as running:
        running.fund()
        # A chain that has slept since the last demo believes that it still has to sync.
        running.mine()
        say(f"{coin.name} node on regtest at block {running.height()}, RPC {running.url}")
        yield running


def port(wanted: int) -> int | None:
    """The port that the daemon uses by default, or None (any) if something else has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            say(f"port {wanted} is taken by another program: using another one")
            return None
    return wanted


async def trade(daemon: Daemon, nodes: dict[CoinType, BitcoinNode]) -> None:
    async with Channel("127.0.0.1", daemon.grpc_port) as channel:
        shop = Shop(UserServiceStub(channel), InvoiceServiceStub(channel), nodes)
        await asyncio.wait_for(shop.sell(await shop.open()), TIMEOUT_S)


def main(*, once: bool) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with node(CoinType.BTC) as btc, node(CoinType.LTC) as ltc:
        daemon = Daemon(
            FOLDER / "state",
            nodes=(btc, ltc),
            env={"TALLY_SERVER_REFLECTION": "true"},
            grpc_port=port(3000),
            http_port=port(8080),
        )
        with daemon:
            say(f"tallyd is up on SQLite in {daemon.folder.relative_to(Path.cwd())}")
            asyncio.run(trade(daemon, {CoinType.BTC: btc, CoinType.LTC: ltc}))
            say("both invoices are CONFIRMED")
            print(
                f"\n  gRPC (GoiPay)   127.0.0.1:{daemon.grpc_port}\n"
                f"  REST            {daemon.url}/v1/invoices\n"
                f"  API pages       {daemon.url}/docs\n"
                f"  health          {daemon.url}/readyz\n"
                f"  metrics         {daemon.url}/metrics\n"
                f"  log             {daemon.log.relative_to(Path.cwd())}\n",
                flush=True,
            )
            if not once:
                print("Ctrl-C stops the daemon and both nodes.", flush=True)
                with contextlib.suppress(KeyboardInterrupt):
                    while daemon.is_running:
                        time.sleep(1)


if __name__ == "__main__":
    os.chdir(ROOT)
    try:
        main(once=os.environ.get("ONCE", "") not in ("", "0"))
    except KeyboardInterrupt:
        sys.exit(130)
    except (ServerError, TimeoutError) as error:
        sys.exit(f"the demo failed: {error or 'an invoice was not CONFIRMED in time'}")
