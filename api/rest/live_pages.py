"""The payment pages that are open, kept up to date: rendered once for all that show the same.

Nothing here asks the store again and again. An order is read when somebody begins to look at it;
from then on the event hub brings its invoice's changes, and the chains are looked at once a second,
in memory. What changed is rendered once per order and language, and whoever shows it is woken.
Readers get the newest part and none in between, so a slow one has no queue.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from uuid import UUID

import trio

from actors.chain_supervisor import ChainHealth, ChainState
from actors.core.invoice import Invoice
from actors.event_hub import EventHub
from actors.orders import Orders, PlacedOrder
from actors.ports import Committed, Log, PersistentError, TransientError, WallClock
from api.page.live import LivePart
from api.page.notes import BEHIND_MS

LOOK_S = 1.0
"""How often the chains are looked at while a page is open."""
BEAT_S = 15.0
"""After so long without another part readers are woken all the same, to say that they live."""

PACKING = 3
"""zlib's level: half of what its best costs."""

Render = Callable[[PlacedOrder, str], LivePart]
"""The live part of an order's page as it is now, in a language (`de`)."""
_Standing = tuple[ChainState | None, int | None]
"""What of a chain pages depend on: whether it is away, and how high it is."""


@dataclass(slots=True, eq=False)
class LivePage:
    """An order's live part in one language, as all who look at it get it.

    Of the part it keeps what is needed, for there are thousands.
    """

    version: str
    final: bool
    changes_at_ms: int | None
    packed: bytes
    """The message, compressed: a third of it."""
    standing: _Standing
    """Of the chain, when the part was rendered."""
    beat_at_s: float
    """When readers are woken next if nothing changes."""
    woken: trio.Event = field(default_factory=trio.Event)
    """Set when there is another part, or it is time for a beat; then a new one stands here."""
    readers: int = 0

    @property
    def message(self) -> bytes:
        """The part as a server-sent event."""
        return zlib.decompress(self.packed)

    def wake(self) -> None:
        self.beat_at_s = trio.current_time() + BEAT_S
        self.woken.set()
        self.woken = trio.Event()


@dataclass(slots=True, eq=False)
class _Watched:
    """An order that somebody looks at."""

    placed: PlacedOrder
    pages: dict[str, LivePage] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LiveStatistics:
    orders: int
    pages: int
    """Of one order in one language."""
    readers: int
    rendered: int


class LivePages:
    """What is open; `run` keeps it up to date."""

    def __init__(
        self,
        orders: Orders,
        *,
        hub: EventHub,
        health: Callable[[str], ChainHealth | None],
        clock: WallClock,
        log: Log,
        render: Render,
    ) -> None:
        self._orders = orders
        self._hub = hub
        self._health = health
        self._clock = clock
        self._log = log
        self._render = render
        self._watched: dict[UUID, _Watched] = {}
        self._unread: set[UUID] = set()
        self._due: set[UUID] = set()
        self._bell = trio.Event()
        self._rendered = 0

    def statistics(self) -> LiveStatistics:
        pages = [page for one in self._watched.values() for page in one.pages.values()]
        readers = sum(page.readers for page in pages)
        return LiveStatistics(len(self._watched), len(pages), readers, self._rendered)

    @contextmanager
    def reading(self, placed: PlacedOrder, language: str, *, seq: int) -> Iterator[LivePage]:
        """The order's page, kept up to date within the block.

        `seq` was the hub's before `placed` was read; what was recorded since is caught up with.
        """
        invoice_id = placed.order.invoice_id
        watched = self._watched.get(invoice_id)
        if watched is None:
            watched = self._watched[invoice_id] = _Watched(placed)
            # From now on the hub tells; what it has told before is found by looking once more.
            if self._hub.last_seq != seq:
                self._unread.add(invoice_id)
            # If nobody was there, nobody looks at the chains.
            self._bell.set()
        page = watched.pages.get(language)
        if page is None:
            page = watched.pages[language] = self._rendered_page(watched, language)
        page.readers += 1
        try:
            yield page
        finally:
            page.readers -= 1
            if not page.readers:
                del watched.pages[language]
            if not watched.pages:
                del self._watched[invoice_id]

    async def run(self) -> None:
        """Keep what is open up to date, until cancelled."""
        look_at_s = 0.0
        with self._hub.listening(self._committed):
            while True:
                with trio.move_on_at(look_at_s if self._watched else math.inf):
                    await self._bell.wait()
                self._bell = trio.Event()
                await self._read_again()
                # Not at each bell: this goes through all pages.
                if trio.current_time() >= look_at_s:
                    look_at_s = trio.current_time() + LOOK_S
                    self._look()
                await self._render_due()

    # --- what may have changed --------------------------------------------------------------------

    def _committed(self, batch: Sequence[Committed]) -> None:
        for one in batch:
            self._take(one.after)

    def _take(self, invoice: Invoice) -> None:
        watched = self._watched.get(invoice.terms.invoice_id)
        if watched is not None and invoice.version > watched.placed.invoice.version:
            watched.placed = replace(watched.placed, invoice=invoice)
            self._due.add(invoice.terms.invoice_id)
            self._bell.set()

    async def _read_again(self) -> None:
        """Look at what was read before it was watched."""
        for invoice_id in tuple(self._unread):
            watched = self._watched.get(invoice_id)
            if watched is not None:
                try:
                    found = await self._orders.find(watched.placed.order.id)
                except (TransientError, PersistentError) as error:
                    # Said where the store is used; the next look tries again.
                    self._log.debug("an order cannot be read again", reason=str(error))
                    return
                if isinstance(found, PlacedOrder):
                    self._take(found.invoice)
            self._unread.discard(invoice_id)

    def _look(self) -> None:
        """Find what the chains, or the time, have changed; wake whom nothing has for long."""
        now_s, now_ms = trio.current_time(), self._clock.now_ms()
        standings: dict[str, _Standing] = {}
        for invoice_id, watched in self._watched.items():
            chain = watched.placed.invoice.terms.chain
            if chain not in standings:
                standings[chain] = self._standing(chain, now_ms)
            for page in watched.pages.values():
                if _stale(page, watched.placed.invoice, standings[chain], now_ms):
                    self._due.add(invoice_id)
                if now_s >= page.beat_at_s:
                    page.wake()

    def _standing(self, chain: str, now_ms: int) -> _Standing:
        health = self._health(chain)
        if health is None:
            return None, None
        state = health.state
        if state is ChainState.CATCHING_UP and health.as_of_ms is not None:
            behind = now_ms - health.as_of_ms >= BEHIND_MS
            state = ChainState.CATCHING_UP if behind else ChainState.CURRENT
        return state, health.tip.height if health.tip else None

    # --- rendering --------------------------------------------------------------------------------

    async def _render_due(self) -> None:
        due, self._due = self._due, set()
        for invoice_id in due:
            watched = self._watched.get(invoice_id)
            if watched is not None:
                self._render_anew(watched)
            # Thousands may be due at one block.
            await trio.lowlevel.checkpoint()

    def _render_anew(self, watched: _Watched) -> None:
        for language, page in watched.pages.items():
            try:
                fresh = self._rendered_page(watched, language)
            except Exception as error:  # noqa: BLE001 - a bug in one page must not stop the others
                self._log.error(
                    "a payment page cannot be rendered",
                    order=watched.placed.order.id,
                    language=language,
                    error=repr(error),
                    exc_info=error,
                )
                # It stays as it was, until something changes again.
                page.standing = self._standing(
                    watched.placed.invoice.terms.chain, self._clock.now_ms()
                )
                page.changes_at_ms = None
                continue
            page.standing, page.changes_at_ms = fresh.standing, fresh.changes_at_ms
            if fresh.version != page.version:
                page.version, page.final = fresh.version, fresh.final
                page.packed = fresh.packed
                page.wake()

    def _rendered_page(self, watched: _Watched, language: str) -> LivePage:
        # Before the part, which may only be newer than this.
        standing = self._standing(watched.placed.invoice.terms.chain, self._clock.now_ms())
        part = self._render(watched.placed, language)
        self._rendered += 1
        message = b"id: %b\ndata: %b\n\n" % (part.version.encode(), part.document)
        packed = zlib.compress(message, PACKING)
        return LivePage(
            version=part.version,
            final=part.final,
            changes_at_ms=part.changes_at_ms,
            packed=packed,
            standing=standing,
            beat_at_s=trio.current_time() + BEAT_S,
        )


def _stale(page: LivePage, invoice: Invoice, standing: _Standing, now_ms: int) -> bool:
    """Whether the page might be another by now."""
    at_ms = page.changes_at_ms
    if at_ms is not None and at_ms <= now_ms:
        return True
    # A new block alone changes nothing where nothing was paid.
    return page.standing[0] != standing[0] or (page.standing != standing and bool(invoice.payments))
