"""`actors.ports.Store` on SQLite and PostgreSQL: writes through the writer, reads from threads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TypeVar, cast
from uuid import UUID

import trio
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from actors.brand_book import BrandBook
from actors.core.codec import CodecError
from actors.core.invoice import Invoice
from actors.core.outcomes import KeyInUse, NoSuchUser, UserExists
from actors.duties import Standing
from actors.order_book import OrderBook
from actors.policy_book import PolicyBook
from actors.ports import (
    Account,
    ChainCursor,
    Committed,
    InvoiceQuery,
    InvoiceRow,
    LogEntry,
    PersistentError,
    PublicKey,
    Step,
    StoreStatistics,
    VersionConflict,
)
from actors.published import Filter, LogNames, LogTip, PublishedPage
from actors.wallet_book import WalletBook
from actors.webhook_book import WebhookBook
from daemon.store import directory, log, outbox, posts, reads
from daemon.store.brands import SqlBrands
from daemon.store.database import READERS, Database
from daemon.store.errors import display, explain
from daemon.store.log_names import log_names
from daemon.store.orders import SqlOrders
from daemon.store.policies import SqlPolicies
from daemon.store.requests import Allocate, Append, Operation, SaveCursor
from daemon.store.sql_access import SqlAccess
from daemon.store.wallets import SqlWallets
from daemon.store.webhooks import SqlWebhooks
from daemon.store.writer import Writer

T = TypeVar("T")


class SqlStore(SqlAccess):
    """Opened by `daemon.store.open_store`; `writer` is None when it is open for reading only.

    Every method may raise TransientError or PersistentError, naming the setting `database.url`.
    """

    def __init__(self, database: Database, writer: Writer | None) -> None:
        self._database = database
        self._writer = writer
        self._limiter = trio.CapacityLimiter(READERS)
        self._log_names: LogNames | None = None
        self.webhooks: WebhookBook = SqlWebhooks(write=self._do, read=self._read)
        self.policies: PolicyBook = SqlPolicies(write=self._do, read=self._read)
        self.wallets: WalletBook = SqlWallets(write=self._do, read=self._read)
        self.orders: OrderBook = SqlOrders(write=self._do, read=self._read)
        self.brands: BrandBook = SqlBrands(write=self._do, read=self._read)

    # --- event log --------------------------------------------------------------------------------

    async def append(
        self, before: Invoice | None, steps: Sequence[Step]
    ) -> tuple[Committed, ...] | VersionConflict:
        request = Append(before, steps, self._database.bulk.key)
        answer = await self._writing.submit(request)
        return cast("tuple[Committed, ...] | VersionConflict", answer)

    async def history(self, invoice_id: UUID) -> tuple[LogEntry, ...]:
        return await self._read(partial(reads.history, invoice_id=invoice_id))

    async def read(self, *, after_seq: int, limit: int) -> tuple[LogEntry, ...]:
        return await self._read(partial(reads.read, after_seq=after_seq, limit=limit))

    async def last_seq(self) -> int:
        """The last fact that the listener has been told of."""
        if self._writer is None:
            return await self._read(log.last_seq)
        await trio.lowlevel.checkpoint()
        return self._writer.published_seq

    async def tip(self) -> LogTip:
        return await self._read(log.tip)

    async def published(self, *, after_seq: int, limit: int, wanted: Filter) -> PublishedPage:
        names = await self.log_names()
        return await self._read(
            partial(outbox.published, names=names, after_seq=after_seq, limit=limit, wanted=wanted)
        )

    async def log_id(self) -> str:
        return (await self.log_names()).current

    async def log_names(self) -> LogNames:
        if self._log_names is None:
            self._log_names = await self._read(log_names)
        return self._log_names

    # --- invoices ---------------------------------------------------------------------------------

    async def invoice(self, invoice_id: UUID) -> InvoiceRow | None:
        return await self._read(partial(reads.invoice, invoice_id=invoice_id))

    async def find(self, query: InvoiceQuery) -> tuple[InvoiceRow, ...]:
        return await self._read(partial(reads.find, query=query))

    async def live(self, chain: str, *, tip_height: int) -> tuple[Invoice, ...]:
        return await self._read(partial(reads.live, chain=chain, tip_height=tip_height))

    async def destinations(self, chain: str) -> tuple[tuple[bytes, UUID], ...]:
        return await self._read(partial(reads.all_destinations, chain=chain))

    async def owners(self, chain: str, destinations: Collection[bytes]) -> dict[bytes, UUID]:
        return await self._read(partial(reads.owners, chain=chain, wanted=destinations))

    # --- users and keys ---------------------------------------------------------------------------

    async def add_user(self, user_id: UUID, *, at_ms: int) -> UserExists | None:
        return await self._do(partial(directory.add_user, user_id=user_id, at_ms=at_ms))

    async def has_user(self, user_id: UUID) -> bool:
        return await self._read(partial(directory.has_user, user_id=user_id))

    async def set_keys(
        self, user_id: UUID, keys: Sequence[PublicKey], *, at_ms: int
    ) -> NoSuchUser | KeyInUse | None:
        return await self._do(
            partial(directory.set_keys, user_id=user_id, keys=tuple(keys), at_ms=at_ms)
        )

    async def account(self, user_id: UUID, chain: str) -> Account | None:
        return await self._read(partial(directory.account, user_id=user_id, chain=chain))

    async def account_by_id(self, account_id: int) -> Account | None:
        return await self._read(partial(directory.account_by_id, account_id=account_id))

    async def accounts(self, chain: str, *, used: bool) -> tuple[Account, ...]:
        return await self._read(partial(directory.all_accounts, chain=chain, used=used))

    async def allocate_index(self, account_id: int) -> tuple[int, int]:
        return cast("tuple[int, int]", await self._writing.submit(Allocate(account_id)))

    # --- chains -----------------------------------------------------------------------------------

    async def cursor(self, chain: str) -> ChainCursor | None:
        return await self._read(partial(directory.cursor, chain=chain))

    async def save_cursor(self, cursor: ChainCursor) -> None:
        await self._writing.submit(SaveCursor(cursor))

    async def quarantine(self, invoice_id: UUID, chain: str, *, from_height: int) -> None:
        await self._do(
            partial(
                directory.quarantine_invoice,
                invoice_id=invoice_id,
                chain=chain,
                from_height=from_height,
            )
        )

    async def quarantined(self, chain: str) -> dict[UUID, int]:
        return await self._read(partial(directory.quarantined, chain=chain))

    async def release(self, invoice_id: UUID) -> None:
        await self._do(partial(directory.release, invoice_id=invoice_id))

    # --- duties -----------------------------------------------------------------------------------

    async def standings(self) -> tuple[Standing, ...]:
        """What holders of duties last said, however long ago; on PostgreSQL only."""
        found = await self._read(posts.said)
        return tuple(Standing(s.duty, s.holder, s.body, s.age_ms / 1000) for s in found)

    # --- the store itself -------------------------------------------------------------------------

    def statistics(self) -> StoreStatistics:
        backend = self._database.backend
        if self._writer is None:
            return StoreStatistics(backend, queued=0, commits=0, events=0, last_commit_s=0.0)
        return self._writer.statistics(backend)

    @property
    def _writing(self) -> Writer:
        assert self._writer is not None, "the store is open for reading only"
        return self._writer

    async def _do(self, run: Callable[[Connection], T]) -> T:
        return cast("T", await self._writing.submit(Operation(run)))

    async def _read(self, query: Callable[[Connection], T]) -> T:
        return await trio.to_thread.run_sync(self._query, query, limiter=self._limiter)

    def _query(self, query: Callable[[Connection], T]) -> T:
        try:
            with self._database.readers.connect() as connection:
                return query(connection)
        except DBAPIError as error:
            failure = explain(error, self._database.url)
            if failure is None:
                raise
            raise failure from error
        except CodecError as error:
            raise PersistentError(
                f"database.url ({display(self._database.url)}) holds what this version cannot read"
                f" ({error}); run the version that wrote it, or restore a backup"
            ) from error
