"""A chain that another process watches: asked by post, known by what its watcher last said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

import orjson

from actors.asking import Asks
from actors.chain_standing import ChainStanding, unpack, watch_duty
from actors.chain_supervisor import ChainFigures, ChainHealth, ChainState
from actors.chain_watcher import WatchPolicy
from actors.core.assets import Chain
from actors.core.codec import terms_to_json
from actors.core.events import Terms
from actors.core.invoice import Invoice
from actors.ports import ChainCursor, InvoiceBook

CREATE, CANCEL = "create", "cancel"
"""Kinds of posts to the watcher: terms as JSON, an invoice's id."""


class RemoteChain:
    """The `ChainDoor` to whichever process holds the duty of watching the chain, perhaps ours."""

    def __init__(
        self,
        chain: Chain,
        *,
        policy: WatchPolicy,
        duties: Asks,
        store: InvoiceBook,
        cursor: ChainCursor | None,
    ) -> None:
        """`cursor` is where the chain stood some time ago; None if it was never watched."""
        self.chain = chain
        self.policy = policy
        self.duty = watch_duty(chain.id)
        self._duties = duties
        self._store = store
        # Neither changes with the watcher: while there is none, an invoice may be asked for, and
        # waits for one.
        self._network = cursor.network if cursor else None
        self._tip = cursor.view.tip if cursor else None
        self._body = b""
        self._last: ChainStanding | None = None

    async def create(self, terms: Terms) -> Invoice:
        """As `ChainSupervisor.create`, but that an invoice that exists is returned as it is.

        Raises TransientError when no watcher answers: the text says whether it is known that there
        is no such invoice.
        """
        await self._duties.ask(self.duty, CREATE, orjson.dumps(terms_to_json(terms)))
        row = await self._store.invoice(terms.invoice_id)
        assert row is not None, "the watcher answers when the invoice is durable"
        return row.invoice

    async def cancel(self, invoice_id: UUID) -> None:
        """As `ChainSupervisor.cancel`. Raises TransientError when no watcher answers."""
        await self._duties.ask(self.duty, CANCEL, str(invoice_id).encode())

    def health(self) -> ChainHealth:
        said = self._said()
        if said is not None:
            return said.health
        last = self._last
        return ChainHealth(
            chain=self.chain.id,
            state=ChainState.UNREACHABLE,
            reason=(
                f"no process watches {self.chain.id} now: start one with `tallyd --role"
                f" {self.duty}`, or read in its log why it ended; nothing is lost meanwhile"
            ),
            network=self._network,
            tip=self._tip,
            node_height=None,
            as_of_ms=last.health.as_of_ms if last else None,
            software=None,
            push=None,
            pruned_below=None,
        )

    def disabled_assets(self) -> Mapping[str, str]:
        """As the watcher found, the last one if there is none now."""
        self._said()
        return self._last.disabled if self._last else {}

    def figures(self) -> ChainFigures | None:
        said = self._said()
        return said.figures if said else None

    def use_confirmations(self, confirmations: int) -> None:
        """Change the number required of invoices that name none (SIGHUP)."""
        self.chain = replace(self.chain, confirmations=confirmations)

    def _said(self) -> ChainStanding | None:
        """What the watcher last said, if there is one now."""
        standing = self._duties.standing(self.duty)
        if standing is None:
            return None
        if standing.body != self._body or self._last is None:
            found, last = unpack(standing.body), self._last
            disabled = found.disabled
            if found.health.network is None and last is not None:
                # A new watcher, which has not asked its node yet.
                disabled = disabled or last.disabled
            self._network = found.health.network or self._network
            self._tip = found.health.tip or self._tip
            health = replace(found.health, network=self._network, tip=self._tip)
            self._last = ChainStanding(health, disabled, found.figures)
            self._body = standing.body
        return self._last
