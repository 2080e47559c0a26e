"""The simulation sees faults: the daemon is broken on purpose, and soon a history fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from actors.chain_supervisor import ChainSupervisor
from actors.core import decision
from actors.core.chain_events import BlockConnected, MempoolChanged, Removal
from actors.core.events import PaymentSeen
from actors.core.inputs import KEPT_SPENDS
from actors.event_hub import EventHub
from actors.invoice_actor import InvoiceActors
from actors.outbox import Follower
from actors.repeats import Repeats
from actors.router import Router
from actors.webhook_actor import WebhookActor
from tests.sim.__main__ import Failed, attempt

Patch = Callable[[pytest.MonkeyPatch], None]
WITHIN = 80
"""Seeds in which a fault must show."""


def cursor_saved_before_append(patch: pytest.MonkeyPatch) -> None:
    tell = ChainSupervisor.tell

    async def early(self, event, view):
        if isinstance(event, BlockConnected):
            await self.save(view.connect(event.block, keep=self.policy.reorg_limit + 1))
        await tell(self, event, view)

    patch.setattr(ChainSupervisor, "tell", early)


def eviction_ignored(patch: pytest.MonkeyPatch) -> None:
    route = Router.route

    async def deaf(self, event, actors, *, tip_height):
        if isinstance(event, MempoolChanged):
            kept = tuple(one for one in event.removed if one.reason is not Removal.EVICTED)
            event = replace(event, removed=kept)
        await route(self, event, actors, tip_height=tip_height)

    patch.setattr(Router, "route", deaf)


def seen_twice(patch: pytest.MonkeyPatch) -> None:
    """A payment that is there is recorded once more: the fold refuses it."""

    def see(draft, output, seen):
        draft.record(
            PaymentSeen(
                seen.at_ms,
                output.outpoint,
                output.amount_base,
                output.asset,
                seen.at_ms,
                late=False,
                spends=seen.spends[:KEPT_SPENDS],
            )
        )

    patch.setattr(decision, "_see_output", see)


def blocks_twice(patch: pytest.MonkeyPatch) -> None:
    """A block that is told again after a restart is recorded again."""
    include = decision._include_output

    def again(draft, output, included):
        known = draft.invoice.find(output.outpoint)
        if known is not None and known.block_hash == included.block.hash:
            decision._disconnect(
                draft, lambda p, _: p.outpoint == output.outpoint, at_ms=included.at_ms
            )
        include(draft, output, included)

    patch.setattr(decision, "_include_output", again)


def webhook_cursor_ahead(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(WebhookActor, "cursor", property(lambda self: self._read_to))


def deadline_read_again(patch: pytest.MonkeyPatch) -> None:
    """A restart gives an open invoice its time to pay once more."""
    adopt = InvoiceActors.adopt

    def generously(self, invoice):
        if invoice.open:
            terms = replace(invoice.terms, expires_at_ms=invoice.terms.expires_at_ms + 60_000)
            invoice = replace(invoice, terms=terms)
        adopt(self, invoice)

    patch.setattr(InvoiceActors, "adopt", generously)


def keys_forgotten(patch: pytest.MonkeyPatch) -> None:
    """An idempotency key means nothing."""
    create = Repeats.create_invoice

    async def anew(self, wanted, *, caller, key):
        return await create(self, wanted, caller=caller, key=None)

    patch.setattr(Repeats, "create_invoice", anew)


def place_lost(patch: pytest.MonkeyPatch) -> None:
    """A reader that listens and goes back to reading skips one event."""
    went_on = Follower.went_on
    patch.setattr(Follower, "went_on", lambda self, seq: went_on(self, seq + 1))


def batch_published_in_part(patch: pytest.MonkeyPatch) -> None:
    """Of several events that are committed together, listeners hear the last one."""
    publish = EventHub.publish
    patch.setattr(EventHub, "publish", lambda self, batch: publish(self, batch[-1:]))


@pytest.mark.parametrize(
    "mutation",
    [
        cursor_saved_before_append,
        eviction_ignored,
        seen_twice,
        blocks_twice,
        webhook_cursor_ahead,
        deadline_read_again,
        keys_forgotten,
        place_lost,
        batch_published_in_part,
    ],
)
def test_a_broken_daemon_is_found_out(mutation: Patch, monkeypatch: pytest.MonkeyPatch):
    mutation(monkeypatch)
    found = (seed for seed in range(WITHIN) if isinstance(attempt(seed), Failed))
    assert next(found, None) is not None, f"{WITHIN} histories do not show it"
