"""Asset files in which contracts of our own stand in the place of the well-known ones.

For tests and the demo: it needs nothing but the standard library.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Token:
    """A deployed contract, and as what the asset file shall name it."""

    asset: str
    chain: str
    contract: str
    exponent: int
    network: int

    def entry(self) -> str:
        """Its lines of the asset file."""
        return (
            f'[[asset]]\nid = "{self.asset}"\nchain = "{self.chain}"\n'
            f'symbol = "{self.asset.partition("_")[0]}"\nname = "{self.asset} of our own"\n'
            f'exponent = {self.exponent}\ncontract = "{self.contract}"\nnetwork = {self.network}\n'
        )


def write_assets(file: Path, *tokens: Token, more: str = "") -> Path:
    """Write an asset file with ``more`` at its beginning; returns its path."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(more + "\n".join(token.entry() for token in tokens))
    return file
