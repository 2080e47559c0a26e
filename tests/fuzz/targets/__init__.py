"""What is fuzzed: one module per kind of thing that comes from outside."""

from __future__ import annotations

from tests.fuzz.engine import Target
from tests.fuzz.targets import (
    backups,
    keys,
    monero_node,
    news,
    nodes,
    rest,
    restores,
    rpc,
    settings,
    streams,
    wires,
)

MODULES = (rpc, rest, nodes, monero_node, streams, news, wires, settings, keys, backups, restores)
TARGETS: dict[str, Target] = {one.name: one for module in MODULES for one in module.TARGETS}


def chosen(name: str) -> list[Target]:
    """Those whose name is this or begins with it; all for an empty one. Raises LookupError."""
    found = [one for one in TARGETS.values() if one.name == name] or [
        one for one in TARGETS.values() if one.name.startswith(name)
    ]
    if not found:
        raise LookupError(f"no target is called {name!r}; there are: {', '.join(TARGETS)}")
    return found
