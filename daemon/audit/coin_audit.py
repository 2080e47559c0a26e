"""One coin's invoices against its node, beside a running daemon or not; nothing is written.

Order matters. The cursor is read before the invoices: what they were told goes at least as far as
it. Then the chain is read up to that block. A daemon at work has gone on meanwhile, so invoices
that differ are looked at again, cursor first, before anything is said of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import trio

from actors.core.assets import Asset
from actors.core.chain_view import BlockRef
from actors.core.events import PaymentDisconnected
from actors.core.invoice import Invoice, State
from actors.ports import (
    ChainCursor,
    ChainSource,
    NodeStatus,
    PersistentError,
    Store,
    TransientError,
    WallClock,
)
from daemon.audit.chain_reading import ChainReading, Placed, height_before
from daemon.audit.findings import CoinReport, Finding, Kind, Trust, Verdict
from daemon.audit.plain_rules import OTHER_SLACK_MS, SLACK_MS, Look, compare
from daemon.config import CoinConfig

LOOKS = 4
"""How often invoices that differ are looked at, at most."""
PAUSE_S = 1.0
"""Between two looks: a daemon hears of a transaction later than its node."""
TIP_PATIENCE_S = 30.0
"""How long a node may be behind what the daemon has read."""
ALIVE_MS = 30 * 60_000
"""A daemon that has read a block within so long, or within a few blocks' time, is at work."""
ALIVE_BLOCKS = 6
STATUS_PATIENCE_S = 30.0
EARLIER_BLOCKS = 100
"""How far before the first block that could matter stored payments are followed."""
MAX_FINDINGS = 1000

OnProgress = Callable[[str, int, int], None]
"""Called with what is looked at, how far, and of how much."""


class Heard:
    """A driver's log while it is audited: what it could not see is part of the result."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def debug(self, event: str, **fields: object) -> None: ...
    def info(self, event: str, **fields: object) -> None: ...

    def warning(self, event: str, **fields: object) -> None:
        height = fields.get("height")
        text = event if height is None else f"{event} (block {height})"
        if text not in self.problems and len(self.problems) < 20:
            self.problems.append(text)

    def error(self, event: str, **fields: object) -> None:
        self.warning(event, **fields)

    @property
    def is_blind(self) -> bool:
        """Whether payments by contracts could not all be seen."""
        return any("by contracts" in problem for problem in self.problems)


class OpenAddresses:
    """Where native coin could come to an invoice that was open at the block being read."""

    def __init__(self, invoices: Sequence[Invoice], coin: str, slack_ms: int) -> None:
        self.now_ms: Callable[[], int] = int
        self._lives = [
            (
                one.terms.destination,
                one.terms.created_at_ms - slack_ms,
                _closed_ms(one, slack_ms),
            )
            for one in invoices
            if one.terms.asset == coin
        ]

    def __call__(self) -> list[bytes]:
        now_ms = self.now_ms()
        return [
            destination
            for destination, begin_ms, end_ms in self._lives
            if begin_ms <= now_ms and (end_ms is None or now_ms <= end_ms)
        ]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is audited, and with what."""

    coin: CoinConfig
    assets: Mapping[str, Asset]
    source: ChainSource
    heard: Heard
    opened: OpenAddresses
    is_own_node: bool
    """Whether it is the node that the daemon follows."""


class CoinAudit:
    """One coin; call `run` once."""

    def __init__(
        self,
        subject: Subject,
        store: Store,
        *,
        clock: WallClock,
        progress: OnProgress,
    ) -> None:
        self._subject = subject
        self._coin = subject.coin
        self._source = subject.source
        self._store = store
        self._clock = clock
        self._progress = progress
        self._report = CoinReport(subject.coin.coin, subject.coin.display)

    async def run(self, cursor: ChainCursor | None, invoices: Sequence[Invoice]) -> CoinReport:
        """Compare `invoices`, which were read after `cursor`."""
        report = self._report
        report.invoices = len(invoices)
        if not invoices:
            return report
        try:
            await self._run(cursor, invoices)
        except (TransientError, PersistentError) as error:
            report.failure = str(error)
            report.findings.clear()
            report.trust.clear()
        report.notes += [one for one in self._subject.heard.problems if one not in report.notes]
        return report

    async def _run(self, cursor: ChainCursor | None, invoices: Sequence[Invoice]) -> None:
        if cursor is None:
            raise PersistentError(
                f"the daemon has read no block of {self._coin.coin} yet, so there is nothing to"
                " compare with: start it once"
            )
        status = await self._status(cursor)
        first = await self._first_height(status, invoices)
        reading = ChainReading(self._source, first_height=first)
        self._subject.opened.now_ms = lambda: reading.time_ms
        reading.time_ms = min(one.terms.created_at_ms for one in invoices)
        watched = [one for one in invoices if self._watch(reading, one)]
        reading.expect(watched)
        self._report.from_height = first
        await self._compare(reading, cursor, watched)

    # --- where to look ----------------------------------------------------------------------------

    async def _status(self, cursor: ChainCursor) -> NodeStatus:
        coin = self._coin
        try:
            with trio.fail_after(STATUS_PATIENCE_S):
                status = await self._source.status()
        except trio.TooSlowError:
            raise TransientError(
                f"{coin.display} did not answer within {STATUS_PATIENCE_S:g} s ({self._which()})"
            ) from None
        if (status.network, status.genesis) != (cursor.network, cursor.genesis):
            raise PersistentError(
                f"the node at {coin.display} is on network {status.network!r} (genesis"
                f" {status.genesis.hex()[:16]}…), but the invoices are of {cursor.network!r}"
                f" (genesis {cursor.genesis.hex()[:16]}…): {self._which()} must be a node of the"
                " same network"
            )
        if status.syncing:
            raise TransientError(
                f"the node at {coin.display} is still syncing (block {status.tip.height} of"
                f" {status.headers_height}): audit when it is done"
            )
        return status

    def _which(self) -> str:
        return f"coin.{self._coin.coin}.daemon.url" if self._subject.is_own_node else "--node"

    async def _first_height(self, status: NodeStatus, invoices: Sequence[Invoice]) -> int:
        """The block before the first that could pay one of them."""
        slack_ms = SLACK_MS.get(self._coin.chain.family, OTHER_SLACK_MS)
        earliest_ms = min(one.terms.created_at_ms for one in invoices) - slack_ms
        self._progress(f"{self._coin.coin}: where to begin", 0, 0)
        lowest = 1 if self._coin.ton is not None else 0
        first = await height_before(self._source, earliest_ms, low=lowest, tip=status.tip)
        # A header may be further off than it should; a height that was made up has no end.
        heights = [p.height for one in invoices for p in one.payments if p.height is not None]
        first = min([first, *(height for height in heights if height >= first - EARLIER_BLOCKS)])
        first = max(lowest, first)
        if status.pruned_below is not None and status.pruned_below > first:
            raise PersistentError(
                f"the node at {self._coin.display} has pruned the blocks below"
                f" {status.pruned_below}, and the oldest of these invoices needs them from {first}"
                " on: name a node that has them with --node, or begin later with --since"
            )
        return first

    def _watch(self, reading: ChainReading, invoice: Invoice) -> bool:
        owner = reading.watch(invoice)
        if owner is None:
            return True
        terms = invoice.terms
        self._add(
            Finding(
                Kind.ADDRESS,
                terms.invoice_id,
                terms.chain,
                terms.address,
                f"the address is that of invoice {owner} too",
                "nobody can tell whose money it is",
            )
        )
        return False

    # --- looking ----------------------------------------------------------------------------------

    async def _compare(
        self, reading: ChainReading, cursor: ChainCursor, invoices: Sequence[Invoice]
    ) -> None:
        verdicts: dict[UUID, Verdict] = {}
        stored = {one.terms.invoice_id: one for one in invoices}
        suspects = list(stored)
        for number in range(LOOKS):
            look, waiting = await self._look(reading, cursor)
            missed = await self._store.quarantined(self._coin.coin)
            before = None if not number else {one: verdicts[one].findings for one in suspects}
            for count, invoice_id in enumerate(suspects):
                verdicts[invoice_id] = compare(
                    stored[invoice_id],
                    reading.paid(invoice_id),
                    waiting.get(invoice_id, []),
                    replace(look, missed_from=missed.get(invoice_id)),
                )
                if not count % 500:
                    await trio.lowlevel.checkpoint()
            suspects = [one for one in suspects if verdicts[one].findings]
            same = before is not None and all(
                verdicts[one].findings == before[one] for one in suspects
            )
            if not suspects or (same and number > 1) or number + 1 == LOOKS:
                break
            await trio.sleep(PAUSE_S)
            cursor = await self._store.cursor(self._coin.coin) or cursor
            for invoice_id in suspects:
                row = await self._store.invoice(invoice_id)
                if row is not None:
                    stored[invoice_id] = row.invoice
            reading.expect(stored[one] for one in suspects)
        await self._conclude(verdicts)

    async def _look(
        self, reading: ChainReading, cursor: ChainCursor
    ) -> tuple[Look, dict[UUID, list[Placed]]]:
        bound = await self._bound(cursor)
        first = self._report.from_height or 0
        self._report.to_height = bound.height
        name, total = self._coin.coin, bound.height - first + 1
        await reading.read_up_to(
            bound.height, lambda height: self._progress(name, height - first + 1, total)
        )
        snapshot, waiting = await reading.mempool()
        now_ms = self._clock.now_ms()
        alive_ms = max(ALIVE_MS, round(ALIVE_BLOCKS * 1000 * self._coin.chain.block_time_s))
        look = Look(
            chain=self._coin.chain,
            assets=self._subject.assets,
            bound=bound.height,
            mempool=snapshot.txids,
            now_ms=now_ms,
            is_alive=now_ms - cursor.saved_at_ms < alive_ms,
            is_own_node=self._subject.is_own_node,
            final_height=await self._source.final_height(),
            is_blind=self._subject.heard.is_blind,
        )
        return look, waiting

    async def _bound(self, cursor: ChainCursor) -> BlockRef:
        """The newest block that the daemon has told and that is on the node's active chain."""
        tip = cursor.view.tip
        height = -1
        with trio.move_on_after(TIP_PATIENCE_S):
            while (height := (await self._source.tip()).height) < tip.height:
                self._progress(f"{self._coin.coin}: waiting for the node", 0, 0)
                await trio.sleep(PAUSE_S)
        if height < tip.height:
            raise TransientError(
                f"the node at {self._coin.display} is at block {height}, and the daemon has read up"
                f" to {tip.height}: audit when the node has them ({self._which()})"
            )
        for block in cursor.view.newest_first():
            theirs = await self._source.block_at(block.height)
            if theirs is not None and theirs.hash == block.hash:
                return block
        raise PersistentError(
            f"the node at {self._coin.display} has none of the last {len(cursor.view.blocks)}"
            f" blocks that the daemon has read ({cursor.view.floor.height} to {tip.height}): it"
            f" follows another chain, or the daemon did. Compare both nodes ({self._which()})"
        )

    # --- what is said -----------------------------------------------------------------------------

    async def _conclude(self, verdicts: Mapping[UUID, Verdict]) -> None:
        report = self._report
        for invoice_id, verdict in verdicts.items():
            report.payments += verdict.payments
            report.trust.update(verdict.trust)
            for finding in verdict.findings:
                depth = finding.unless_moved
                if depth is not None and await self._has_moved(invoice_id, depth):
                    report.trust[Trust.MOVED] += 1
                else:
                    self._add(finding)

    async def _has_moved(self, invoice_id: UUID, depth: int) -> bool:
        """Whether a payment could have had that depth in a block that is gone."""
        deepest = (self._report.to_height or 0) - depth + 1
        history = await self._store.history(invoice_id)
        moves = (entry.event for entry in history if isinstance(entry.event, PaymentDisconnected))
        return any(event.height <= deepest for event in moves)

    def _add(self, finding: Finding) -> None:
        self._report.differences += 1
        if len(self._report.findings) < MAX_FINDINGS:
            self._report.findings.append(finding)


def _closed_ms(invoice: Invoice, slack_ms: int) -> int | None:
    """When it ceased to be open, and a little; None while it is."""
    if invoice.state in (State.PENDING, State.SEEN):
        return None
    return (invoice.settled_at_ms or invoice.updated_at_ms) + slack_ms
