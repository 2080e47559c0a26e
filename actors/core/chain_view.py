"""What we believe the active chain to be: a dense window of its newest blocks, as a locator.

A bare height cannot tell a reorg from progress, so a cursor is always a locator. The window holds
as many blocks as the deepest reorg that we promise to follow, plus the block they fork from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class BlockRef:
    """A block's place in a chain. Hashes are in the order that people see (`hash.hex()`)."""

    height: int
    hash: bytes
    parent: bytes
    time_s: int
    """Unix time in the block's header, in seconds; miners may bend it by hours."""


class BrokenChainError(ValueError):
    """A block was offered that does not follow the tip: the caller must look for a fork first."""


@dataclass(frozen=True, slots=True)
class ChainView:
    """An immutable window of consecutive blocks, oldest first; never empty."""

    blocks: tuple[BlockRef, ...]

    def __post_init__(self) -> None:
        assert self.blocks, "a chain view holds at least its tip"

    @property
    def tip(self) -> BlockRef:
        return self.blocks[-1]

    @property
    def floor(self) -> BlockRef:
        """The oldest block known: a fork point below it cannot be named."""
        return self.blocks[0]

    def connect(self, block: BlockRef, *, keep: int) -> ChainView:
        """The view with `block` as its tip, at most `keep` blocks long.

        Raises BrokenChainError unless `block` follows the tip by height and by parent hash.
        """
        assert keep >= 1, "a chain view holds at least its tip"
        tip = self.tip
        if block.height != tip.height + 1 or block.parent != tip.hash:
            raise BrokenChainError(
                f"block {block.hash.hex()} at {block.height} with parent {block.parent.hex()} does"
                f" not follow {tip.hash.hex()} at {tip.height}"
            )
        return ChainView((*self.blocks, block)[-keep:])

    def disconnect_to(self, fork_point: BlockRef) -> ChainView:
        """The view whose tip is `fork_point`, which must be in the window (else ValueError)."""
        return ChainView(self.blocks[: self.blocks.index(fork_point) + 1])

    def rewind_below(self, height: int) -> ChainView:
        """The view without the blocks at `height` and above, but never without its floor."""
        kept = tuple(block for block in self.blocks if block.height < height)
        return ChainView(kept or self.blocks[:1])

    def newest_first(self) -> Iterator[BlockRef]:
        return reversed(self.blocks)


def consecutive(blocks: Sequence[BlockRef]) -> bool:
    """Whether each block is the parent of the next."""
    return all(
        after.height == before.height + 1 and after.parent == before.hash
        for before, after in pairwise(blocks)
    )
