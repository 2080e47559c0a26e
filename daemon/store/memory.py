"""`actors.ports.Store` in memory, with the semantics of the real one; for tests and trials.

Every write is atomic with respect to cancellation: it happens as a whole before the call returns,
or not at all.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import islice
from secrets import token_hex
from uuid import UUID

import trio

from actors.brand_book import BrandBook
from actors.core.invoice import Invoice
from actors.core.outcomes import KeyInUse, NoSuchUser, UserExists
from actors.order_book import OrderBook
from actors.outbox import published
from actors.policy_book import PolicyBook
from actors.ports import (
    Account,
    ChainCursor,
    CommitListener,
    Committed,
    InvoiceQuery,
    InvoiceRow,
    LogEntry,
    Order,
    PublicKey,
    Step,
    StoreStatistics,
    VersionConflict,
)
from actors.published import Filter, LogNames, LogTip, Published, PublishedPage
from actors.wallet_book import WalletBook
from actors.webhook_book import WebhookBook
from daemon.store import rows
from daemon.store.brands import MemoryBrands
from daemon.store.directory import FIRST_INDEX, next_index
from daemon.store.errors import ReuseError, UnknownAccountError
from daemon.store.log_chain import beginning, link, row_bytes
from daemon.store.memory_access import MemoryAccess
from daemon.store.memory_webhooks import MemoryWebhooks
from daemon.store.orders import MemoryOrders
from daemon.store.policies import MemoryPolicies
from daemon.store.requests import check_steps
from daemon.store.wallets import MemoryWallets

_STRETCH = 4096
"""Facts looked at in one read of the outbox."""


class MemoryStore(MemoryAccess):
    """A store that lasts as long as the object; `on_commit` as for `open_store`."""

    def __init__(self, on_commit: CommitListener | None = None) -> None:
        super().__init__()
        self._on_commit = on_commit
        self._log: list[LogEntry] = []
        self._published_seq = 0
        self._histories: dict[UUID, list[LogEntry]] = {}
        self._invoices: dict[UUID, InvoiceRow] = {}
        self._destinations: dict[tuple[str, bytes], UUID] = {}
        self._paths: set[tuple[int, tuple[int, int]]] = set()
        self._users: set[UUID] = set()
        self._accounts: dict[tuple[str, str], Account] = {}
        self._current: dict[tuple[UUID, str], tuple[str, str]] = {}
        self._next: dict[int, tuple[int, int]] = {}
        self._cursors: dict[str, ChainCursor] = {}
        self._quarantine: dict[UUID, tuple[str, int]] = {}
        self._commits = 0
        self._log_id = token_hex(4)
        self._tip = beginning(self._log_id)
        self.policies: PolicyBook = MemoryPolicies(self._users)
        self.wallets: WalletBook = MemoryWallets(self._users, self._keep_keys)
        self.orders: OrderBook = MemoryOrders()
        self.brands: BrandBook = MemoryBrands(self._users)
        self.webhooks: WebhookBook = MemoryWebhooks(
            log=lambda: self._log,
            user_of=lambda invoice_id: self._invoices[invoice_id].invoice.terms.user_id,
        )

    # --- event log --------------------------------------------------------------------------------

    async def append(
        self, before: Invoice | None, steps: Sequence[Step]
    ) -> tuple[Committed, ...] | VersionConflict:
        check_steps(before, steps)
        await trio.lowlevel.checkpoint()
        after = steps[-1].after
        invoice_id = after.terms.invoice_id
        expected = before.version if before else 0
        stored = self._invoices.get(invoice_id)
        if (stored.invoice.version if stored else 0) != expected:
            return VersionConflict(invoice_id, expected)
        if before is None:
            self._take_address(after)
        done: list[Committed] = []
        for step in steps:
            seq = len(self._log) + 1
            entry = LogEntry(seq, invoice_id, step.after.version, step.event)
            self._log.append(entry)
            self._tip = LogTip(seq, link(self._tip.hash, seq, _chained(entry)))
            self._histories.setdefault(invoice_id, []).append(entry)
            done.append(Committed(seq, before, step.event, step.after))
            before = step.after
        self._invoices[invoice_id] = InvoiceRow(after, len(self._log))
        self._commits += 1
        self._publish(done)
        return tuple(done)

    def _publish(self, done: Sequence[Committed]) -> None:
        self._published_seq = done[-1].seq
        if self._on_commit is not None:
            self._on_commit(done)

    def _take_address(self, invoice: Invoice) -> None:
        terms = invoice.terms
        address = (terms.chain, terms.destination)
        path = (terms.account_id, terms.path)
        if address in self._destinations or path in self._paths:
            raise ReuseError(
                f"invoice {terms.invoice_id} would reuse the address {terms.address} on"
                f" {terms.chain}, or index {terms.path} of account {terms.account_id}"
            )
        self._destinations[address] = terms.invoice_id
        self._paths.add(path)

    async def history(self, invoice_id: UUID) -> tuple[LogEntry, ...]:
        await trio.lowlevel.checkpoint()
        return tuple(self._histories.get(invoice_id, ()))

    async def read(self, *, after_seq: int, limit: int) -> tuple[LogEntry, ...]:
        await trio.lowlevel.checkpoint()
        start = max(0, after_seq)
        return tuple(self._log[start : start + limit])

    async def last_seq(self) -> int:
        await trio.lowlevel.checkpoint()
        return self._published_seq

    async def tip(self) -> LogTip:
        await trio.lowlevel.checkpoint()
        return self._tip

    async def published(self, *, after_seq: int, limit: int, wanted: Filter) -> PublishedPage:
        await trio.lowlevel.checkpoint()
        reached = max(0, after_seq)
        found: list[Published] = []
        for entry in islice(self._log, reached, reached + _STRETCH):
            reached = entry.seq
            event = self._published(entry)
            if wanted.matches(event):
                found.append(event)
                if len(found) == limit:
                    break
        return PublishedPage(found, reached)

    def _published(self, entry: LogEntry) -> Published:
        row = self._invoices[entry.invoice_id]
        after = replace(row.invoice, version=entry.version)
        return published(self._log_id, Committed(entry.seq, None, entry.event, after))

    async def log_id(self) -> str:
        await trio.lowlevel.checkpoint()
        return self._log_id

    async def log_names(self) -> LogNames:
        return LogNames(await self.log_id())

    # --- invoices ---------------------------------------------------------------------------------

    async def invoice(self, invoice_id: UUID) -> InvoiceRow | None:
        await trio.lowlevel.checkpoint()
        return self._invoices.get(invoice_id)

    async def find(self, query: InvoiceQuery) -> tuple[InvoiceRow, ...]:
        await trio.lowlevel.checkpoint()
        found = [row for row in self._invoices.values() if _matches(row, query)]
        found.sort(key=lambda row: _position(row, query.order), reverse=query.descending)
        if query.after is not None:
            after = query.after
            found = [
                row
                for row in found
                if (_position(row, query.order) < after) == query.descending
                and _position(row, query.order) != after
            ]
        return tuple(found[: query.limit])

    async def live(self, chain: str, *, tip_height: int) -> tuple[Invoice, ...]:
        await trio.lowlevel.checkpoint()
        return tuple(
            row.invoice
            for row in self._invoices.values()
            if row.invoice.terms.chain == chain
            and ((until := row.invoice.watched_until()) is None or until >= tip_height)
        )

    async def destinations(self, chain: str) -> tuple[tuple[bytes, UUID], ...]:
        await trio.lowlevel.checkpoint()
        return tuple(
            (destination, invoice_id)
            for (owner, destination), invoice_id in self._destinations.items()
            if owner == chain
        )

    async def owners(self, chain: str, destinations: Collection[bytes]) -> dict[bytes, UUID]:
        await trio.lowlevel.checkpoint()
        found = ((each, self._destinations.get((chain, each))) for each in destinations)
        return {each: invoice_id for each, invoice_id in found if invoice_id is not None}

    # --- users and keys ---------------------------------------------------------------------------

    async def add_user(self, user_id: UUID, *, at_ms: int) -> UserExists | None:
        del at_ms  # nobody reads it back
        await trio.lowlevel.checkpoint()
        if user_id in self._users:
            return UserExists(user_id)
        self._users.add(user_id)
        return None

    async def has_user(self, user_id: UUID) -> bool:
        await trio.lowlevel.checkpoint()
        return user_id in self._users

    async def set_keys(
        self, user_id: UUID, keys: Sequence[PublicKey], *, at_ms: int
    ) -> NoSuchUser | KeyInUse | None:
        del at_ms
        await trio.lowlevel.checkpoint()
        if user_id not in self._users:
            return NoSuchUser(user_id)
        kept = self._keep_keys(user_id, keys)
        if isinstance(kept, KeyInUse):
            return kept
        for key in keys:
            self._current[user_id, key.chain] = (key.chain, key.canonical)
        return None

    def _keep_keys(self, user_id: UUID, keys: Sequence[PublicKey]) -> dict[str, int] | KeyInUse:
        """Chain id → account id of these keys, all or nothing."""
        for key in keys:
            owner = self._accounts.get((key.chain, key.canonical))
            if owner is not None and owner.user_id != user_id:
                return KeyInUse(key.chain)
        kept: dict[str, int] = {}
        for key in keys:
            account = self._accounts.get((key.chain, key.canonical))
            if account is None:
                account_id = len(self._accounts) + 1
                account = Account(account_id, user_id, key.chain, key.canonical, key.secret)
                self._next[account.id] = FIRST_INDEX
            elif key.secret is not None:
                account = replace(account, secret=key.secret)
            self._accounts[key.chain, key.canonical] = account
            kept[key.chain] = account.id
        return kept

    async def account(self, user_id: UUID, chain: str) -> Account | None:
        await trio.lowlevel.checkpoint()
        current = self._current.get((user_id, chain))
        return None if current is None else self._accounts[current]

    async def account_by_id(self, account_id: int) -> Account | None:
        await trio.lowlevel.checkpoint()
        return next((one for one in self._accounts.values() if one.id == account_id), None)

    async def accounts(self, chain: str, *, used: bool) -> tuple[Account, ...]:
        await trio.lowlevel.checkpoint()
        return tuple(
            account
            for account in self._accounts.values()
            if account.chain == chain and not (used and self._next[account.id] == FIRST_INDEX)
        )

    async def allocate_index(self, account_id: int) -> tuple[int, int]:
        await trio.lowlevel.checkpoint()
        if account_id not in self._next:
            raise UnknownAccountError(f"there is no account {account_id}")
        given = self._next[account_id]
        self._next[account_id] = next_index(given)
        return given

    # --- chains -----------------------------------------------------------------------------------

    async def cursor(self, chain: str) -> ChainCursor | None:
        await trio.lowlevel.checkpoint()
        return self._cursors.get(chain)

    async def save_cursor(self, cursor: ChainCursor) -> None:
        await trio.lowlevel.checkpoint()
        self._cursors[cursor.chain] = cursor

    async def quarantine(self, invoice_id: UUID, chain: str, *, from_height: int) -> None:
        await trio.lowlevel.checkpoint()
        known = self._quarantine.get(invoice_id, (chain, from_height))
        self._quarantine[invoice_id] = (known[0], min(known[1], from_height))

    async def quarantined(self, chain: str) -> dict[UUID, int]:
        await trio.lowlevel.checkpoint()
        return {
            invoice_id: height
            for invoice_id, (owner, height) in self._quarantine.items()
            if owner == chain
        }

    async def release(self, invoice_id: UUID) -> None:
        await trio.lowlevel.checkpoint()
        self._quarantine.pop(invoice_id, None)

    def statistics(self) -> StoreStatistics:
        return StoreStatistics(
            backend="memory",
            queued=0,
            commits=self._commits,
            events=len(self._log),
            last_commit_s=0.0,
        )


def _chained(entry: LogEntry) -> bytes:
    return row_bytes(
        invoice_id=entry.invoice_id.bytes,
        version=entry.version,
        kind=entry.event.kind,
        at_ms=entry.event.at_ms,
        data=rows.encode_event(entry.event),
    )


def _position(row: InvoiceRow, order: Order) -> tuple[int, UUID]:
    terms = row.invoice.terms
    first = terms.created_at_ms if order is Order.CREATED else row.updated_seq
    return first, terms.invoice_id


def _matches(row: InvoiceRow, query: InvoiceQuery) -> bool:
    invoice = row.invoice
    return (
        (query.user_id is None or invoice.terms.user_id == query.user_id)
        and (not query.assets or invoice.terms.asset in query.assets)
        and (not query.states or invoice.state.value in query.states)
        and (query.updated_since_ms is None or invoice.updated_at_ms >= query.updated_since_ms)
    )
