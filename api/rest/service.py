"""`/healthz`, `/readyz`, `/metrics`, `/v1/log`: for whoever runs the daemon."""

from __future__ import annotations

import trio

from actors.access_book import Scope
from actors.chain_supervisor import ChainState
from api.rest.edge import Edge
from api.rest.operation import Door, Incoming, Operation, Reply, Success
from api.rest.represent import health_json

STORE_ANSWERS_WITHIN_S = 5.0
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Service:
    """Says whether the daemon lives, whether it can be relied on, and its figures."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                id="health",
                method="GET",
                path="/healthz",
                tag="Service",
                summary="Is the daemon alive?",
                about="Answers as long as the event loop turns; says nothing of nodes or store.",
                query=None,
                door=Door.OPEN,
                shared=True,
                handle=self._healthz,
                successes=(Success(200, "It is.", "Alive"),),
            ),
            Operation(
                id="readiness",
                method="GET",
                path="/readyz",
                tag="Service",
                summary="Is the daemon ready?",
                about=(
                    "Ready means: the store answers and every enabled chain is current. Callers"
                    " without a key, unless they are on this machine, get no more than that."
                ),
                query=None,
                door=Door.OPEN,
                shared=True,
                handle=self._readyz,
                successes=(
                    Success(200, "It is ready.", "Readiness"),
                    Success(503, "It is not; the reasons are given.", "Readiness"),
                ),
            ),
            Operation(
                id="metrics",
                method="GET",
                path="/metrics",
                tag="Service",
                summary="Read the metrics",
                about="In the text format of Prometheus. Needs no key on this machine.",
                query=None,
                door=Door.NEAR,
                handle=self._metrics,
                successes=(Success(200, "The metrics.", media_type=METRICS_TYPE),),
            ),
            self._log(),
        )

    def _log(self) -> Operation:
        return Operation(
            id="getLog",
            method="GET",
            path="/v1/log",
            tag="Service",
            summary="Read the newest link of the event log",
            about=(
                "Each event is bound to all before it by a hash. Note `anchor` down elsewhere:"
                " `tallyd audit --log --anchor` shows later whether that history is still there."
            ),
            handle=self._newest_link,
            successes=(Success(200, "Where the log ends.", "LogTip"),),
        )

    async def _newest_link(self, _incoming: Incoming) -> Reply:
        tip = await self._edge.outbox.tip()
        document = {
            "log_id": await self._edge.outbox.log_id(),
            "seq": tip.seq,
            "hash": tip.hash.hex(),
            "anchor": str(tip),
        }
        return Reply(document=document)

    async def _healthz(self, _incoming: Incoming) -> Reply:
        return Reply(document={"status": "ok"})

    async def _readyz(self, incoming: Incoming) -> Reply:
        reason: str | None = f"the store has not answered within {STORE_ANSWERS_WITHIN_S:g} s"
        with trio.move_on_after(STORE_ANSWERS_WITHIN_S):
            reason = await self._edge.store_ready()
        chains = self._edge.healths()
        ready = reason is None and all(one.state is ChainState.CURRENT for one in chains)
        if not incoming.caller.may(Scope.READ):
            # Reasons name nodes and databases.
            store = {"ready": reason is None, "reason": None}
            bare = {"ready": ready, "store": store, "chains": {}, "roles": [], "duties": {}}
            return Reply(200 if ready else 503, bare)
        document = {
            "ready": ready,
            "store": {"ready": reason is None, "reason": reason},
            "chains": {
                one.chain: health_json(one, self._edge.invoicing.catalogue) for one in chains
            },
            "roles": list(self._edge.roles),
            "duties": {
                duty: None
                if standing is None
                else {"holder": standing.holder, "age_s": round(standing.age_s, 1)}
                for duty, standing in self._edge.duties().items()
            },
        }
        return Reply(200 if ready else 503, document)

    async def _metrics(self, _incoming: Incoming) -> Reply:
        return Reply(content=self._edge.metrics(), media_type=METRICS_TYPE)
