"""Which of several nodes of one chain are behind, and which are on a fork. No IO."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import TypeVar

Node = TypeVar("Node", bound=Hashable)


def behind(heads: Mapping[Node, int], *, lag_blocks: int) -> dict[Node, int]:
    """How many blocks each node lags, of those that are `lag_blocks` or more below the best."""
    best = max(heads.values(), default=0)
    return {node: best - head for node, head in heads.items() if best - head >= lag_blocks}


def outvoted(
    hashes: Mapping[Node, str], heads: Mapping[Node, int], *, active: Node
) -> dict[Node, str]:
    """The nodes whose block at one height is not the one to believe, and that one's hash.

    Believed is what most nodes have; among equals what the longer chain has, then the active node.
    """
    if len(set(hashes.values())) < 2:
        return {}
    counts = Counter(hashes.values())

    def standing(node: Node) -> tuple[int, int, bool]:
        return counts[hashes[node]], heads[node], node == active

    believed = hashes[max(hashes, key=standing)]
    return {node: believed for node, own in hashes.items() if own != believed}
