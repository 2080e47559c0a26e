"""`/v1/invoices/{id}/events` and `/explain`: what happened to an invoice, and what follows."""

from __future__ import annotations

from actors.core.explain import ChainSituation, explain
from actors.core.outcomes import NoSuchInvoice
from api.convert import STATUS_WORD
from api.errors import answer
from api.rest.edge import Edge
from api.rest.operation import Incoming, Operation, Reply, Success
from api.rest.problems import Problem
from api.rest.represent import entry_json
from api.rest.views import Views


class History:
    """Tells and explains an invoice's history."""

    def __init__(self, edge: Edge, *, views: Views) -> None:
        self._edge = edge
        self._invoicing = edge.invoicing
        self._views = views

    def operations(self) -> tuple[Operation, ...]:
        return self._telling(), self._explaining()

    def _telling(self) -> Operation:
        return Operation(
            id="getInvoiceEvents",
            method="GET",
            path="/v1/invoices/{invoice_id}/events",
            tag="Invoices",
            summary="Read an invoice's history",
            about=(
                "Every fact that was recorded of the invoice, oldest first. `seq` is the position"
                " in the daemon's whole log, `version` that in the invoice's own history."
            ),
            handle=self._history,
            successes=(Success(200, "The facts.", "History"),),
            refusals=("NO_SUCH_INVOICE", "INVALID_INVOICE_ID"),
        )

    async def _history(self, incoming: Incoming) -> Reply:
        invoice_id = incoming.ids["invoice_id"]
        entries = await self._invoicing.history(invoice_id)
        if not entries:
            raise Problem(answer(NoSuchInvoice(invoice_id)))
        return Reply(document={"items": [entry_json(entry) for entry in entries]})

    def _explaining(self) -> Operation:
        return Operation(
            id="explainInvoice",
            method="GET",
            path="/v1/invoices/{invoice_id}/explain",
            tag="Invoices",
            summary="Why is it not paid yet?",
            about=(
                "The reasons for the invoice's status, the most important first, in words for a"
                " support person. `code` is stable; the text may change with any release."
            ),
            handle=self._explain,
            successes=(Success(200, "The reasons.", "Explanation"),),
            refusals=("NO_SUCH_INVOICE", "INVALID_INVOICE_ID"),
        )

    async def _explain(self, incoming: Incoming) -> Reply:
        invoice_id = incoming.ids["invoice_id"]
        # The history first: what comes in between is in the state, and only missing a nicety.
        history = await self._invoicing.history(invoice_id)
        view = await self._views.look(invoice_id)
        reasons = explain(
            view.invoice,
            now_ms=self._edge.clock.now_ms(),
            catalogue=self._invoicing.catalogue,
            situation=self._situation(view.invoice.terms.chain),
            history=[entry.event for entry in history],
        )
        document = {
            "id": str(invoice_id),
            "status": STATUS_WORD[view.invoice.state],
            "reasons": [{"code": one.code, "text": one.text} for one in reasons],
        }
        return Reply(document=document)

    def _situation(self, chain_id: str) -> ChainSituation:
        health = self._invoicing.health(chain_id)
        if health is None:
            return ChainSituation("disabled", None, None, None)
        tip_height = health.tip.height if health.tip else None
        return ChainSituation(health.state.value, health.reason, tip_height, health.as_of_ms)
