"""`GET /v1/audit`: who did what to the daemon."""

from __future__ import annotations

from actors.access_book import AccessBook, Scope
from api.convert import format_instant
from api.rest import fields
from api.rest.fields import Field, Shape
from api.rest.operation import Incoming, Operation, Reply, Success

PAGE = 50
MAX_PAGE = 500
_LAST = 2**63 - 1


class AuditTrail:
    """Shows the trail of administrative acts."""

    def __init__(self, book: AccessBook) -> None:
        self._book = book

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                id="listAudit",
                method="GET",
                path="/v1/audit",
                tag="Service",
                summary="Read the audit trail",
                about=(
                    "Administrative acts, the newest first: who, what, on what, when, from where."
                    " `next` is the `before` of the next page, null on the last."
                ),
                handle=self._list,
                needs=Scope.ADMIN,
                query=Shape(
                    (
                        Field(
                            "before",
                            fields.whole_text(1, _LAST),
                            {"type": "integer", "minimum": 1},
                            "Only acts with a lower id: what `next` of the page before named.",
                        ),
                        Field(
                            "limit",
                            fields.whole_text(1, MAX_PAGE),
                            {
                                "type": "integer",
                                "minimum": 1,
                                "maximum": MAX_PAGE,
                                "default": PAGE,
                            },
                            "Acts on a page.",
                        ),
                    )
                ),
                successes=(Success(200, "A page of acts.", "AuditPage"),),
                refusals=("STORE_UNAVAILABLE", "OPERATOR_NEEDED", "BUG"),
            ),
        )

    async def _list(self, incoming: Incoming) -> Reply:
        limit = incoming.query.get("limit", PAGE)
        # One more than the page shows whether there is another.
        found = await self._book.acts(before=incoming.query.get("before"), limit=limit + 1)
        page = found[:limit]
        return Reply(
            document={
                "items": [
                    {
                        "id": one.id,
                        "at": format_instant(one.act.at_ms),
                        "actor": one.act.actor,
                        "address": one.act.address,
                        "act": one.act.act,
                        "target": one.act.target,
                        "detail": one.act.detail,
                    }
                    for one in page
                ],
                "next": page[-1].id if len(found) > limit else None,
            }
        )
