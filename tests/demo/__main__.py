"""`make run`: real nodes, the daemon, and an invoice of each kind paid before your eyes.

Bitcoin and Litecoin on regtest; where monerod could be installed, Monero as well; where anvil
could, Ethereum, BNB Smart Chain and a token on each. All is in .cache/demo and found again at the
next start. At the end an order is paid on its payment page. With ONCE=1 it ends by itself, with
exit status 0 only if all was CONFIRMED; else there is time to look, and it stays up until Ctrl-C.
"""

import asyncio
import contextlib
import os
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from grpclib.client import Channel

from proto.goipay.crypto.v1 import (
    BnbKeysUpdateRequest,
    BtcKeysUpdateRequest,
    CoinType,
    EthKeysUpdateRequest,
    LtcKeysUpdateRequest,
    XmrKeysUpdateRequest,
)
from proto.goipay.invoice.v1 import (
    CreateInvoiceRequest,
    Invoice,
    InvoiceServiceStub,
    InvoiceStatusStreamRequest,
    InvoiceStatusType,
)
from proto.goipay.user.v1 import RegisterUserRequest, UpdateCryptoKeysRequest, UserServiceStub
from tests.demo.checkout import Checkout
from tests.demo.wares import (
    Ware,
    account_key,
    bitcoin_ware,
    coin_ware,
    deploy,
    monero_ware,
    token_ware,
)
from tests.helpers.anvil import AnvilNode
from tests.helpers.bitcoind import BitcoinNode
from tests.helpers.daemon import ROOT, Daemon
from tests.helpers.evm_assets import write_assets
from tests.helpers.monero_coinbase import base_times, new_scalar
from tests.helpers.monero_wallet import MoneroWallet
from tests.helpers.monerod import MoneroNode
from tests.helpers.process import ServerError
from tests.nodes.install import find

FOLDER = ROOT / ".cache" / "demo"
CUT_OFF = FOLDER / "cut-off"
"""There while the demo runs: left behind, it tells the next start that this one was killed."""
TIMEOUT_S = 120
LOOK_S = 20.0
"""Between the steps of the payment that can be watched on its page."""
STARTED = time.monotonic()


def say(text: str) -> None:
    print(f"{time.monotonic() - STARTED:6.1f}s  {text}", flush=True)


@dataclass
class Shop:
    """The merchant's backend and, for once, its customers as well."""

    users: UserServiceStub
    invoices: InvoiceServiceStub
    wares: dict[CoinType, Ware]
    unpaid: set[CoinType] = field(default_factory=set)
    """Sold, and no payment seen yet."""

    async def open(self) -> str:
        """Register a user with a fresh account key and wallet; returns the user's id."""
        user_id = (await self.users.register_user(RegisterUserRequest())).user_id
        xpub = account_key()
        await self.users.update_crypto_keys(
            UpdateCryptoKeysRequest(
                user_id=user_id,
                btc_req=BtcKeysUpdateRequest(master_pub_key=xpub),
                ltc_req=LtcKeysUpdateRequest(master_pub_key=xpub),
                eth_req=EthKeysUpdateRequest(master_pub_key=xpub),
                bnb_req=BnbKeysUpdateRequest(master_pub_key=xpub),
                xmr_req=self.monero_keys(),
            )
        )
        say(f"registered user {user_id} with the account key {xpub[:16]}…")
        return user_id

    def monero_keys(self) -> XmrKeysUpdateRequest | None:
        """What watches a fresh Monero wallet, if Monero is sold."""
        if CoinType.XMR not in self.wares:
            return None
        return XmrKeysUpdateRequest(
            priv_view_key=new_scalar().hex(), pub_spend_key=base_times(new_scalar()).hex()
        )

    async def statuses(self) -> AsyncIterator[Invoice]:
        async for response in self.invoices.invoice_status_stream(InvoiceStatusStreamRequest()):
            assert response.invoice is not None
            yield response.invoice

    async def sell(self) -> None:
        """Create all invoices, pay them, mine, and show each status until all are CONFIRMED."""
        stream = self.statuses()
        waiting: set[str] = set()
        # Before the user is registered: the stream is open when two calls after it are answered.
        first = asyncio.ensure_future(anext(stream))
        user_id = await self.open()
        self.unpaid = set(self.wares)
        for ware in self.wares.values():
            created = await self.invoices.create_invoice(
                CreateInvoiceRequest(
                    user_id=user_id,
                    coin=ware.coin,
                    amount=ware.price,
                    timeout=3600,
                    confirmations=1,
                )
            )
            waiting.add(created.payment_id)
        invoice = await first
        while waiting:
            if invoice.id in waiting:
                self.show(invoice)
                await self.act(invoice)
                if invoice.status is InvoiceStatusType.CONFIRMED:
                    waiting.discard(invoice.id)
            if waiting:
                invoice = await anext(stream)
        await stream.aclose()

    async def act(self, invoice: Invoice) -> None:
        """What customers and miners do next."""
        ware = self.wares[invoice.coin]
        if invoice.status is InvoiceStatusType.PENDING:
            await asyncio.to_thread(ware.pay, invoice.crypto_address)
        elif invoice.status is InvoiceStatusType.PENDING_MEMPOOL:
            self.unpaid.discard(invoice.coin)
            # Not before all on this chain are in its mempool, so that each is seen there.
            if not any(self.wares[coin].node is ware.node for coin in self.unpaid):
                await asyncio.to_thread(ware.node.mine)

    def show(self, invoice: Invoice) -> None:
        status = InvoiceStatusType(invoice.status).name
        detail = f"tx {invoice.tx_id[:16]}…" if invoice.tx_id else invoice.crypto_address
        width = max(len(coin.name or "") for coin in self.wares)
        say(
            f"{CoinType(invoice.coin).name:<{width}}  {status:<15}"
            f"  {invoice.actual_amount:g} of {invoice.required_amount:g}  {detail}"
        )


@contextlib.contextmanager
def bitcoin_node(coin: CoinType) -> Iterator[BitcoinNode]:
    family = "btc" if coin is CoinType.BTC else "ltc"
    with BitcoinNode(family, datadir=FOLDER / family) as running:
        running.fund()
        # A chain that has slept since the last demo believes that it still has to sync.
        running.mine()
        say(f"{coin.name} node on regtest at block {running.height()}, RPC {running.url}")
        yield running


@contextlib.contextmanager
def monero_wallet() -> Iterator[MoneroWallet]:
    """A customer's wallet with money, on a node of its own."""
    folder = FOLDER / "xmr"
    with (
        MoneroNode(datadir=folder, restricted=True) as running,
        MoneroWallet(running, folder=folder / "wallets") as wallet,
    ):
        wallet.fund()
        say(f"XMR node with its private chain at block {running.height()}, RPC {running.url}")
        yield wallet


@contextlib.contextmanager
def evm_node(coin: CoinType, chain_id: int) -> Iterator[AnvilNode]:
    name = str(coin.name)
    with AnvilNode(chain_id, datadir=FOLDER / name.lower()) as running:
        running.mine()
        say(f"{name} node with chain id {chain_id} at block {running.height()}, {running.ws_url}")
        yield running


@contextlib.contextmanager
def evm_wares() -> Iterator[tuple[list[Ware], dict[str, str]]]:
    """Coins and tokens of both EVM chains, and what the daemon is told of them."""
    with evm_node(CoinType.ETH, 1) as eth, evm_node(CoinType.BNB, 56) as bnb:
        usdt = deploy(eth, "USDT_ERC20", "eth", 6)
        busd = deploy(bnb, "BSCUSD_BEP20", "bnb", 18)
        wares = [
            coin_ware(CoinType.ETH, 0.25, eth),
            token_ware(usdt, 19.99, eth),
            coin_ware(CoinType.BNB, 0.75, bnb),
            token_ware(busd, 49.5, bnb),
        ]
        yield (
            wares,
            {
                "ETH_DAEMON_URL": eth.ws_url,
                "BNB_DAEMON_URL": bnb.ws_url,
                "TALLY_ASSETS_FILE": str(write_assets(FOLDER / "assets.toml", usdt, busd)),
            },
        )


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


async def trade(daemon: Daemon, wares: Sequence[Ware]) -> None:
    async with Channel("127.0.0.1", daemon.grpc_port) as channel:
        by_coin = {ware.coin: ware for ware in wares}
        shop = Shop(UserServiceStub(channel), InvoiceServiceStub(channel), by_coin)
        await asyncio.wait_for(shop.sell(), TIMEOUT_S)


@contextlib.contextmanager
def kept_whole() -> Iterator[None]:
    """Begin anew if the last demo was killed: anvil then lost blocks that the daemon knows."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    if CUT_OFF.exists():
        say("the last demo was cut off: beginning with new EVM chains and a new database")
        for name in ("eth", "bnb", "state"):
            shutil.rmtree(FOLDER / name, ignore_errors=True)
    CUT_OFF.touch()
    try:
        yield
    finally:
        CUT_OFF.unlink()


def main(*, once: bool) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(kept_whole())
        btc = stack.enter_context(bitcoin_node(CoinType.BTC))
        ltc = stack.enter_context(bitcoin_node(CoinType.LTC))
        wares = [bitcoin_ware(CoinType.BTC, 0.015, btc), bitcoin_ware(CoinType.LTC, 2.5, ltc)]
        env = {"TALLY_SERVER_REFLECTION": "true"}
        nodes: list[BitcoinNode | MoneroNode] = [btc, ltc]
        if find("xmr") is None:
            say("monerod is not installed: without Monero")
        else:
            wallet = stack.enter_context(monero_wallet())
            wares.append(monero_ware(0.125, wallet))
            nodes.append(wallet.node)
        if find("evm") is None:
            say("anvil is not installed: without Ethereum and BNB Smart Chain")
        else:
            more, told = stack.enter_context(evm_wares())
            wares += more
            env |= told
        daemon = Daemon(
            FOLDER / "state",
            nodes=tuple(nodes),
            env=env,
            grpc_port=port(3000),
            http_port=port(8080),
        )
        stack.enter_context(daemon)
        say(f"tallyd is up on SQLite in {daemon.folder.relative_to(Path.cwd())}")
        asyncio.run(trade(daemon, wares))
        say(f"all {len(wares)} invoices are CONFIRMED")
        checkout = Checkout(daemon)
        say(f"an order and its page: {checkout.page}")
        if once:
            checkout.pay(btc, say, pause_s=0)
        print(
            f"\n  payment page    {checkout.page}\n"
            f"  gRPC (GoiPay)   127.0.0.1:{daemon.grpc_port}\n"
            f"  REST            {daemon.url}/v1/invoices\n"
            f"  API pages       {daemon.url}/docs\n"
            f"  health          {daemon.url}/readyz\n"
            f"  metrics         {daemon.url}/metrics\n"
            f"  log             {daemon.log.relative_to(Path.cwd())}\n",
            flush=True,
        )
        if not once:
            print("Ctrl-C stops the daemon and the nodes.", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                checkout.pay(btc, say, pause_s=LOOK_S)
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
