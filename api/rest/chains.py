"""`/v1/assets` and `/v1/chains`: what can be asked for, and how the chains are."""

from __future__ import annotations

from api.rest.edge import Edge
from api.rest.operation import Incoming, Operation, Reply, Success
from api.rest.represent import asset_json, health_json


class Chains:
    """Reads the catalogue and the chains' health."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                id="listAssets",
                method="GET",
                path="/v1/assets",
                tag="Chains",
                summary="List the assets",
                about="`exponent` is the number of decimals: 1 unit is 10^exponent base units.",
                shared=True,
                handle=self._assets,
                successes=(Success(200, "Every asset that this daemon knows.", "Assets"),),
            ),
            Operation(
                id="listChains",
                method="GET",
                path="/v1/chains",
                tag="Chains",
                summary="Read the chains' health",
                about="`reason` says why a chain is not current, and what to do.",
                shared=True,
                handle=self._chains,
                successes=(Success(200, "Every enabled chain.", "Chains"),),
            ),
        )

    async def _assets(self, _incoming: Incoming) -> Reply:
        invoicing = self._edge.invoicing
        items = [
            asset_json(one, invoicing.catalogue, invoicing.why_disabled(one))
            for one in invoicing.catalogue.assets.values()
        ]
        return Reply(document={"items": items})

    async def _chains(self, _incoming: Incoming) -> Reply:
        return Reply(
            document={
                "items": [
                    health_json(one, self._edge.invoicing.catalogue) for one in self._edge.healths()
                ]
            }
        )
