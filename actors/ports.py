"""What the actors need from the world, as Protocols; `daemon` supplies the real ones, tests fakes.

Errors come in three families. Expected refusals are returned (`actors.core.outcomes`). The world's
failures are raised as TransientError (retry soon, with backoff) or PersistentError (a person must
act; retried slowly, said again and again). Anything else is a bug and ends the actor that has it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol
from uuid import UUID

from actors.access_book import AccessBook
from actors.brand_book import BrandBook
from actors.core.assets import Chain
from actors.core.chain_events import ChainTx
from actors.core.chain_view import BlockRef, ChainView
from actors.core.events import Event
from actors.core.invoice import Invoice
from actors.core.outcomes import KeyInUse, KeyRefused, NoSuchUser, UserExists
from actors.core.watch_index import WatchIndex
from actors.order_book import OrderBook
from actors.policy_book import PolicyBook
from actors.published import Filter, LogNames, LogTip, PublishedPage
from actors.wallet_book import WalletBook
from actors.webhook_book import WebhookBook

# --- failures of the world ------------------------------------------------------------------------


class TransientError(Exception):
    """The world failed in a way that may pass by itself: refused connection, timeout, HTTP 503.

    The text says what failed, which setting names the thing, and what to do if it goes on.
    """


class PersistentError(Exception):
    """Only a person can mend this state of the world: wrong network, pruned blocks, HTTP 401.

    The text says what was found, which setting or input it was, and what to do.
    """


# --- clock and log --------------------------------------------------------------------------------


class WallClock(Protocol):
    def now_ms(self) -> int:
        """Unix time in milliseconds. May jump; never used to measure durations."""
        ...


class Log(Protocol):
    """Structured logging: an event name in plain words and fields; never keys or credentials."""

    def debug(self, event: str, **fields: object) -> None: ...
    def info(self, event: str, **fields: object) -> None: ...
    def warning(self, event: str, **fields: object) -> None: ...
    def error(self, event: str, **fields: object) -> None: ...


# --- a chain, through its node --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What a node says of itself."""

    software: str
    """Name and version as the node gives it: `/Satoshi:29.4.0/Knots:.../`."""
    network: str
    """`main`, `test`, `testnet4`, `signet`, `regtest` (Bitcoin family)."""
    genesis: bytes
    """Hash of block 0: two private networks may share a name, not this."""
    tip: BlockRef
    headers_height: int
    """The best header the node knows; above the tip's height while it still downloads blocks."""
    syncing: bool
    """Initial block download: the node's tip is old, nothing it says of payments is current."""
    pruned_below: int | None
    """Lowest block height still readable; None when the node keeps every block."""
    push: str
    """How news arrive, for people: `zmq sequence,rawtx,hashblock`, `long-poll`, `poll 1s`."""


@dataclass(frozen=True, slots=True)
class TipMoved:
    """The active chain changed, or may have: look at the tip."""


@dataclass(frozen=True, slots=True)
class TxArrived:
    """A transaction that concerns us entered the mempool (repeats are allowed)."""

    tx: ChainTx
    received_at: float
    """Monotonic seconds (`trio.current_time`) at which the push arrived; for latency figures."""


@dataclass(frozen=True, slots=True)
class TxLeft:
    """A transaction left the mempool without a block; the watcher asks whether it concerns us."""

    txid: bytes


@dataclass(frozen=True, slots=True)
class MempoolStale:
    """The push channel lost something or was re-opened: the mempool must be read again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The node answered, and all it had said before has been delivered. At least every second."""

    received_at: float
    """Monotonic seconds at which the node was asked: what it knew then has been delivered."""


Signal = TipMoved | TxArrived | TxLeft | MempoolStale | Heartbeat


@dataclass(frozen=True, slots=True)
class MempoolSnapshot:
    """The mempool at one moment between the call and its return."""

    txids: Collection[bytes]
    """Every transaction in it (fast `in`)."""
    txs: tuple[ChainTx, ...]
    """Those that concern us, parents before children where the node orders them."""
    contested: Collection[bytes] = frozenset()
    """Transactions of which the node says that it saw a rival for their inputs; they are in
    `txids`, not in `txs` (fast `in`)."""


class ChainSource(Protocol):
    """A driver: one chain through one node. IO and parsing only; it remembers nothing that matters.

    Every method raises TransientError or PersistentError, nothing else, when the node or the
    connection fails, and answers what the node says at that moment.
    """

    @property
    def chain(self) -> str:
        """The chain's id, `btc`."""
        ...

    async def status(self) -> NodeStatus: ...

    def disabled_assets(self) -> Mapping[str, str]:
        """Asset id → why it cannot be asked for, for people; as the last `status` found."""
        ...

    async def tip(self) -> BlockRef: ...

    async def block_at(self, height: int) -> BlockRef | None:
        """The active chain's block at `height`; None above the tip."""
        ...

    async def window(self, tip: BlockRef, count: int) -> tuple[BlockRef, ...]:
        """Up to `count` consecutive blocks ending in `tip`, oldest first (fewer near genesis)."""
        ...

    def read_blocks(
        self, heights: range, index: WatchIndex
    ) -> AsyncIterator[tuple[BlockRef, tuple[ChainTx, ...]]]:
        """The active chain's blocks in order, with the transactions in each that concern us.

        Reads ahead within a bound; matches each block against `index` when it is handed over, not
        when it was fetched. Ends early when the chain gets shorter than `heights` meanwhile.
        """
        ...

    async def read_mempool(self, index: WatchIndex) -> MempoolSnapshot:
        """The mempool as it is now; transactions read before are not fetched again.

        Raises TransientError while the node still loads its mempool from disk: an incomplete
        answer would look like evictions. Fills in `ChainTx.first_seen_s` where the node knows it.
        """
        ...

    async def final_height(self) -> int | None:
        """The highest block that the node calls final by the configured tag; None without one."""
        ...

    def signals(self, index: WatchIndex) -> AbstractAsyncContextManager[AsyncIterator[Signal]]:
        """The node's news, until the connection fails. Entering means: subscribed.

        News that come before the first `read_mempool` ends are delivered as well: subscribe, then
        snapshot.
        """
        ...

    async def aclose(self) -> None: ...


# --- keys -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A checked, watch-only key in canonical form."""

    chain: str
    canonical: str
    """One text per key, whatever version bytes it was given in; what uniqueness is judged by."""
    description: str
    """For people, without the key: `xpub at depth 4, fingerprint 1a2b3c4d`."""
    secret: bytes | None = field(default=None, repr=False)
    """What of the key must not be read by others (a Monero view key), sealed for the store."""


@dataclass(frozen=True, slots=True)
class Derived:
    address: str
    destination: bytes
    """scriptPubKey or address bytes: what the chain is searched for."""
    memo: str | None = None
    """What must be said with the payment, where invoices share the address (see Terms.memo)."""


class AddressDeriver(Protocol):
    def parse_key(self, chain: Chain, text: str) -> PublicKey | KeyRefused:
        """Check a key that a person gave. The text is never logged.

        Keys that can spend are refused. Raises PersistentError when a part of it has to be sealed
        and that cannot be done.
        """
        ...

    def derive(
        self, chain: Chain, account: Account, *, network: str, major: int, minor: int
    ) -> Derived:
        """The address at major/minor of the account, for the node's network.

        What the driver needs to see payments to it is there before this returns. Raises
        PersistentError when the account's secret is missing or cannot be opened.
        """
        ...


# --- the store ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """One new fact and the state it leads to."""

    event: Event
    after: Invoice


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One recorded fact."""

    seq: int
    """Position in the log of the whole daemon: strictly growing in commit order, from 1."""
    invoice_id: UUID
    version: int
    """Position in the invoice's own history, from 1."""
    event: Event


@dataclass(frozen=True, slots=True)
class Committed:
    """A durable fact with the state after it: what the hub publishes."""

    seq: int
    before: Invoice | None
    event: Event
    after: Invoice


@dataclass(frozen=True, slots=True)
class VersionConflict:
    """Somebody else appended to this invoice: the caller's state is old. Load it again."""

    invoice_id: UUID
    expected_version: int


@dataclass(frozen=True, slots=True)
class ChainCursor:
    """Where a chain's reading stands, and on which network."""

    chain: str
    network: str
    genesis: bytes
    view: ChainView
    saved_at_ms: int


@dataclass(frozen=True, slots=True)
class Account:
    """A user's key for a chain, with its own index sequence."""

    id: int
    user_id: UUID
    chain: str
    key: str
    """PublicKey.canonical."""
    secret: bytes | None = field(default=None, repr=False)
    """PublicKey.secret, sealed."""


class Order(Enum):
    CREATED = "created"
    UPDATED = "updated"


@dataclass(frozen=True, slots=True)
class InvoiceQuery:
    """A page of invoices. Filters are joined by AND; None means no filter."""

    user_id: UUID | None = None
    assets: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    """Values of actors.core.invoice.State; empty: all."""
    updated_since_ms: int | None = None
    order: Order = Order.CREATED
    descending: bool = False
    after: tuple[int, UUID] | None = None
    """(created_at_ms or updated_seq of the last row seen, its id); where the next page begins."""
    limit: int = 50


@dataclass(frozen=True, slots=True)
class InvoiceRow:
    """A stored invoice with the position of its last event."""

    invoice: Invoice
    updated_seq: int


class EventLog(Protocol):
    """Facts, durable before they are visible. One writer: sequence order is commit order."""

    async def append(
        self, before: Invoice | None, steps: Sequence[Step]
    ) -> tuple[Committed, ...] | VersionConflict:
        """Record `steps` of one invoice, all or none; returns after the commit.

        `before` (None for a creation) carries the expected version. What is queued by several
        callers is committed together. The listener given to the store has been called, in sequence
        order, before this returns.

        Raises TransientError when the store cannot write now (locked, full): nothing was recorded.
        """
        ...

    async def history(self, invoice_id: UUID) -> tuple[LogEntry, ...]:
        """Every fact of one invoice, oldest first; empty when there is no such invoice."""
        ...

    async def read(self, *, after_seq: int, limit: int) -> tuple[LogEntry, ...]:
        """Facts of all invoices with seq > after_seq, in order."""
        ...

    async def last_seq(self) -> int: ...

    async def tip(self) -> LogTip:
        """The newest fact that is committed, published already or not, with its link."""
        ...

    async def published(self, *, after_seq: int, limit: int, wanted: Filter) -> PublishedPage:
        """The next events through the filter, at most `limit`, oldest first.

        It may stop early, even without an event, where many have to be passed over: go on from
        `reached_seq`, which is beyond `after_seq` unless the log ends there. What is committed but
        not published yet may be among them.
        """
        ...

    async def log_id(self) -> str:
        """Eight hexadecimal digits, chosen once for this database: the first half of event ids."""
        ...

    async def log_names(self) -> LogNames:
        """The same with those that the log had before it was restored."""
        ...


class InvoiceBook(Protocol):
    """The stored states: a projection written in the same transaction as the facts."""

    async def invoice(self, invoice_id: UUID) -> InvoiceRow | None: ...

    async def find(self, query: InvoiceQuery) -> tuple[InvoiceRow, ...]: ...

    async def live(self, chain: str, *, tip_height: int) -> tuple[Invoice, ...]:
        """Invoices that can still change at or above this tip (see Invoice.watched_until)."""
        ...

    async def destinations(self, chain: str) -> tuple[tuple[bytes, UUID], ...]:
        """Every address ever given out on the chain, with its invoice."""
        ...

    async def owners(self, chain: str, destinations: Collection[bytes]) -> dict[bytes, UUID]:
        """The invoices of these addresses; what was never given out is left out."""
        ...


class Directory(Protocol):
    """Users and their keys."""

    async def add_user(self, user_id: UUID, *, at_ms: int) -> UserExists | None: ...

    async def has_user(self, user_id: UUID) -> bool: ...

    async def set_keys(
        self, user_id: UUID, keys: Sequence[PublicKey], *, at_ms: int
    ) -> NoSuchUser | KeyInUse | None:
        """Make each key its chain's current one, all or nothing.

        The same key again is a no-op: its index sequence goes on. A new key starts its own. A
        `secret` that comes with it takes the place of the stored one.
        """
        ...

    async def account(self, user_id: UUID, chain: str) -> Account | None:
        """The current account of the user for the chain."""
        ...

    async def account_by_id(self, account_id: int) -> Account | None:
        """An account, current or not."""
        ...

    async def accounts(self, chain: str, *, used: bool) -> tuple[Account, ...]:
        """Every account of the chain, current or not, by id; `used`: that has given out indices."""
        ...

    async def allocate_index(self, account_id: int) -> tuple[int, int]:
        """The next (major, minor), from (0, 1) or, once restored, later; durable before it returns,
        never given twice."""
        ...


class ChainBook(Protocol):
    """Each chain's cursor, and the invoices that must be told again of blocks already read."""

    async def cursor(self, chain: str) -> ChainCursor | None: ...

    async def save_cursor(self, cursor: ChainCursor) -> None: ...

    async def quarantine(self, invoice_id: UUID, chain: str, *, from_height: int) -> None:
        """Remember that the invoice missed what happened from `from_height` on (lowest wins)."""
        ...

    async def quarantined(self, chain: str) -> dict[UUID, int]:
        """Invoice → lowest height it missed."""
        ...

    async def release(self, invoice_id: UUID) -> None:
        """The invoice is up to date again."""
        ...


class Store(EventLog, InvoiceBook, Directory, ChainBook, AccessBook, Protocol):
    """All that is durable, behind one door."""

    @property
    def webhooks(self) -> WebhookBook: ...

    @property
    def policies(self) -> PolicyBook: ...

    @property
    def wallets(self) -> WalletBook: ...

    @property
    def orders(self) -> OrderBook: ...

    @property
    def brands(self) -> BrandBook: ...

    def statistics(self) -> StoreStatistics: ...


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    backend: str
    """`sqlite`, `postgresql`, `memory`."""
    queued: int
    """Writes waiting for the next transaction."""
    commits: int
    events: int
    last_commit_s: float
    """How long the last transaction took, in seconds."""


CommitListener = Callable[[Sequence[Committed]], None]
"""Called on the Trio thread with each committed batch, in order; must not block or fail."""
