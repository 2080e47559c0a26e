"""A chain that another process watches: asked by post, known by what its watcher last said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

import orjson

from actors.chain_standing import ChainStanding, unpack, watch_duty
from actors.chain_supervisor import ChainFigures, ChainHealth, ChainState
from actors.chain_watcher import WatchPolicy
from actors.core.assets import Chain
from actors.core.codec import terms_to_json
from actors.core.events import Terms
from actors.core.invoice import Invoice
from actors.duties import Duties
from actors.ports import InvoiceBook

CREATE, CANCEL = "create", "cancel"
"""Kinds of posts to the watcher: terms as JSON, an invoice's id."""


class RemoteChain:
    """The `ChainDoor` to whichever process holds the duty of watching the chain, perhaps ours."""

    def __init__(
        self, chain: Chain, *, policy: WatchPolicy, duties: Duties, store: InvoiceBook
    ) -> None:
        self.chain = chain
        self.policy = policy
        self.duty = watch_duty(chain.id)
        self._duties = duties
        self._store = store
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
            # It does not change with the watcher: an invoice may be asked for, and waits for one.
            network=last.health.network if last else None,
            tip=last.health.tip if last else None,
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
            if found.health.network is None and last is not None:
                # A new watcher, which has not read the database yet: there it stands as well.
                network, tip = last.health.network, found.health.tip or last.health.tip
                found = replace(
                    found,
                    health=replace(found.health, network=network, tip=tip),
                    disabled=found.disabled or last.disabled,
                )
            self._body, self._last = standing.body, found
        return self._last
