"""What a chain's watcher lets every process know: the body, as JSON, of its duty's standing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from actors.chain_supervisor import ChainFigures, ChainHealth, ChainState
from actors.core.chain_view import BlockRef


@dataclass(frozen=True, slots=True)
class ChainStanding:
    health: ChainHealth
    disabled: Mapping[str, str]
    """Asset id → why it cannot be asked for."""
    figures: ChainFigures | None


def watch_duty(chain: str) -> str:
    """The duty of watching the chain."""
    return f"watch:{chain}"


def pack(standing: ChainStanding) -> bytes:
    health = standing.health
    return orjson.dumps(
        {
            "health": {
                **{name: getattr(health, name) for name in _PLAIN},
                "state": health.state.value,
                "tip": None if health.tip is None else _block_json(health.tip),
            },
            "disabled": dict(standing.disabled),
            "figures": None if standing.figures is None else asdict(standing.figures),
        }
    )


def unpack(body: bytes) -> ChainStanding:
    """Inverse of `pack`; what other versions added is left out.

    Raises ValueError or KeyError for what no version has written.
    """
    data: dict[str, Any] = orjson.loads(body)
    health, figures = data["health"], data["figures"]
    tip = health["tip"]
    return ChainStanding(
        health=ChainHealth(
            **{name: health[name] for name in _PLAIN},
            state=ChainState(health["state"]),
            tip=None if tip is None else _block(tip),
        ),
        disabled=data["disabled"],
        figures=None if figures is None else ChainFigures(**{n: figures[n] for n in _FIGURES}),
    )


_PLAIN = (
    "chain",
    "reason",
    "network",
    "node_height",
    "as_of_ms",
    "software",
    "push",
    "pruned_below",
)
_FIGURES = tuple(ChainFigures.__dataclass_fields__)


def _block_json(block: BlockRef) -> dict[str, object]:
    return {
        "height": block.height,
        "hash": block.hash.hex(),
        "parent": block.parent.hex(),
        "time_s": block.time_s,
    }


def _block(data: dict[str, Any]) -> BlockRef:
    return BlockRef(
        data["height"], bytes.fromhex(data["hash"]), bytes.fromhex(data["parent"]), data["time_s"]
    )
