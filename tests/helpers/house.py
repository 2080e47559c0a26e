"""The house without its doors: store, hub, chains and the service above, on simulated chains."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import trio
import trio.testing

from actors.access import Caller
from actors.audit import Audit
from actors.chain_supervisor import ChainSupervisor
from actors.chain_watcher import WatchPolicy
from actors.core.assets import Asset, Catalogue, Chain
from actors.core.invoice import Invoice
from actors.event_hub import EventHub
from actors.gate import Gate, GateRules, Knock, TooMany, Unknown
from actors.idempotency import Idempotency
from actors.invoicing import Invoicing, NewInvoice
from actors.orders import Orders
from actors.outbox import Outbox
from actors.ports import CommitListener, Store, WallClock
from actors.repeats import Repeats
from actors.wallets import Wallets
from api.rest.edge import Edge, HttpLimits
from daemon.keys import KeyPlace, Keyring, TonForm, Vault
from daemon.store import MemoryStore
from tests.helpers.fake_chain import FakeChain
from tests.helpers.recording_log import RecordingLog
from tests.helpers.virtual_clock import VirtualClock
from tests.helpers.webhook_world import ToldSender, make_webhooks

USDT_TON = bytes.fromhex("00b113a994b5024a16719f69139328eb759596c38a25f59028b146fecdc3621dfe")
CATALOGUE = Catalogue(
    chains=(
        Chain("btc", "Bitcoin", "bitcoin", "BTC", 600, 2),
        Chain("ltc", "Litecoin", "bitcoin", "LTC", 150, 6),
        Chain("eth", "Ethereum", "evm", "ETH", 12, 12),
        Chain("bnb", "BNB Smart Chain", "evm", "BNB", 0.45, 15),
        Chain("xmr", "Monero", "monero", "XMR", 120, 10, (), 10),
        Chain("ton", "TON", "ton", "TON", 3, 1, ("mainnet", "testnet")),
    ),
    assets=(
        Asset("BTC", "btc", "BTC", "Bitcoin", 8),
        Asset("LTC", "ltc", "LTC", "Litecoin", 8),
        Asset("ETH", "eth", "ETH", "Ether", 18),
        Asset("BNB", "bnb", "BNB", "BNB", 18),
        Asset("XMR", "xmr", "XMR", "Monero", 12),
        Asset("TON", "ton", "TON", "Toncoin", 9),
        Asset("USDT_TON", "ton", "USDT", "Tether USD", 6, USDT_TON),
        Asset("HOUSE_TOKEN", "eth", "HOUSE", "A token of our own", 6, bytes(20)),
    ),
)
BTC_KEY = (
    "tpubDCUURn3yPT4P3SkrUq9rG1RyJK6BGhmrovvSAF61LHLCZhNUMRw7FANPmhGuDWXo3GMkc6C4ZFGBuPMrovjdnXhtJf"
    "QE3uK3s6QzFuiQaz9"
)
LTC_KEY = (
    "zpub6o5L7tQbC4zavTL1Lzq1eg5qev4WQMXNWMGoruoHSX8YRss8V4U1k4UUae8abXpVxNh9eBHTLBGBjvuCSRtfVtAmf4"
    "LRBtsNxQX4gpj56Dc"
)
EVM_KEY = (
    "xpub6CUf84eg4Ba1jJ3ePzLSSoeQ1ENzP33zCN4982Xoi1TZ1kfYreZe5ECqLm4RVWQHpuB5gixi3gK1PykXzcwWxW7w6d"
    "7GWxpsNY7wxNVBHip"
)
TON_KEY = "3d1abea3e07fa3e6f52e9cfd47b860fa38ce133e2d7d927fc3dd55e8228074f4"

NETWORKS = {"ton": "mainnet", "xmr": "fakechain"}
"""Of the chains that have no regtest."""

VAULT_KEY = KeyPlace(key=bytes(range(32)), file=Path("unused"), default=False, source="a test")


class NearGate(Gate):
    """Takes requests that came over no socket, as Quart's test client makes them, for local."""

    def admit(self, knock: Knock) -> Caller | Unknown | TooMany:
        return super().admit(_near(knock))

    def admit_stranger(self, knock: Knock) -> Caller | TooMany:
        return super().admit_stranger(_near(knock))


def _near(knock: Knock) -> Knock:
    return replace(knock, address="127.0.0.1:1") if knock.address.startswith(":") else knock


@dataclass
class House:
    """A running house; the chains are moved by the test."""

    store: Store
    hub: EventHub
    clock: WallClock
    log: RecordingLog
    keyring: Keyring
    invoicing: Invoicing
    chains: Mapping[str, FakeChain]
    supervisors: Mapping[str, ChainSupervisor]

    def __post_init__(self) -> None:
        self.gate: Gate = NearGate(
            self.store, GateRules(anonymous=True), clock=self.clock, log=self.log
        )
        self.outbox = Outbox(self.store, self.hub)
        self.audit = Audit(self.store, clock=self.clock)
        self.idempotency = Idempotency(self.store, clock=self.clock, log=self.log)
        self.repeats = Repeats(self.invoicing, self.idempotency)
        self.wallets = Wallets(self.invoicing, store=self.store, clock=self.clock)
        self.orders = Orders(self.invoicing, store=self.store, clock=self.clock)
        self.sender = ToldSender()
        self.webhooks = make_webhooks(
            self.store, self.hub, self.outbox, self.clock, self.log, self.sender
        )

    @property
    def btc(self) -> FakeChain:
        return self.chains["btc"]

    async def told(self) -> None:
        """Let everything that the chains have said so far become durable and published."""
        for chain in self.chains.values():
            chain.beat()
        await trio.testing.wait_all_tasks_blocked()

    async def user(self, **keys: str) -> UUID:
        """A registered user with these keys, BTC's and LTC's without any."""
        user_id = await self.invoicing.register_user()
        assert isinstance(user_id, UUID)
        given = keys or {"btc": BTC_KEY, "ltc": LTC_KEY}
        assert await self.invoicing.set_keys(user_id, list(given.items())) is None
        return user_id

    async def invoice(
        self,
        user_id: UUID,
        amount_base: int = 1_500_000,
        *,
        asset: str = "BTC",
        ttl_s: int = 3600,
        confirmations: int | None = 1,
    ) -> Invoice:
        outcome = await self.invoicing.create_invoice(
            NewInvoice(user_id, asset, amount_base, ttl_s * 1000, confirmations)
        )
        assert isinstance(outcome, Invoice), outcome
        return outcome

    async def state(self, invoice: Invoice) -> Invoice:
        """The invoice as it is stored now."""
        row = await self.store.invoice(invoice.terms.invoice_id)
        assert row is not None
        return row.invoice

    async def paid(self, invoice: Invoice, amount_base: int | None = None) -> Invoice:
        """The invoice after a payment entered the mempool."""
        wanted = invoice.terms.required_base if amount_base is None else amount_base
        self.chains[invoice.terms.chain].pay(invoice.terms.destination, wanted)
        await self.told()
        return await self.state(invoice)

    async def mined(self, invoice: Invoice, count: int = 1) -> Invoice:
        """The invoice after blocks with all that waited."""
        self.chains[invoice.terms.chain].mine(count=count)
        await self.told()
        return await self.state(invoice)

    def edge(self, *, limits: HttpLimits | None = None) -> Edge:
        """What the REST API would be given."""

        async def store_ready() -> str | None:
            await trio.lowlevel.checkpoint()
            return None

        return Edge(
            invoicing=self.invoicing,
            hub=self.hub,
            outbox=self.outbox,
            clock=self.clock,
            log=self.log,
            metrics=lambda: b"tallyd_up 1\n",
            store_ready=store_ready,
            version="0.0.0",
            gate=self.gate,
            access_book=self.store,
            audit=self.audit,
            repeats=self.repeats,
            webhooks=self.webhooks,
            wallets=self.wallets,
            orders=self.orders,
            brands=self.store.brands,
            limits=limits or HttpLimits(),
        )


@asynccontextmanager
async def open_house(
    *,
    chains: tuple[str, ...] = ("btc", "ltc"),
    make_store: Callable[[CommitListener], Store] = MemoryStore,
    policy: WatchPolicy | None = None,
    ton: TonForm | None = None,
) -> AsyncIterator[House]:
    """Run the house for the length of a block, every chain current at its beginning."""
    log = RecordingLog()
    clock = VirtualClock()
    hub = EventHub(log=log)
    store = make_store(hub.publish)
    fakes = {
        chain: FakeChain(
            chain,
            clock=clock,
            asset=CATALOGUE.chains[chain].coin,
            network=NETWORKS.get(chain, "regtest"),
        )
        for chain in chains
    }
    supervisors = {
        chain: ChainSupervisor(
            CATALOGUE.chains[chain],
            fake,
            store,
            clock=clock,
            log=log,
            policy=policy or WatchPolicy(),
        )
        for chain, fake in fakes.items()
    }
    keyring = Keyring(Vault(VAULT_KEY, warn=log.warning), ton={"ton": ton or TonForm()})
    invoicing = Invoicing(
        store=store, deriver=keyring, catalogue=CATALOGUE, chains=supervisors, clock=clock
    )
    house = House(store, hub, clock, log, keyring, invoicing, fakes, supervisors)
    async with trio.open_nursery() as nursery:
        for supervisor in supervisors.values():
            await nursery.start(supervisor.run)
        await trio.testing.wait_all_tasks_blocked()
        await house.told()
        yield house
        nursery.cancel_scope.cancel()
