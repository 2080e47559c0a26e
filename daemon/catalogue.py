"""The asset data: the built-in table, extended or replaced by the operator's file.

The format is described in `daemon/assets.toml`. Reading collects everything that is wrong, so that
one start shows it all.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from actors.core.assets import Asset, Catalogue, CatalogueError, Chain
from daemon.catalogue_entries import ASSET, CHAIN, Entry, read_asset, read_chain

BUILT_IN = Path(__file__).with_name("assets.toml")
MAX_FILE_BYTES = 4 << 20
_SECTIONS = ("chain", "asset")


class CatalogueFileError(CatalogueError):
    """A file of asset data can not be used; `problems` are sentences that name file and entry."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        assert self.problems
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class AssetTable:
    """Chains, and assets by (id, network); network None holds where no other entry does."""

    chains: Mapping[str, Chain]
    assets: Mapping[tuple[str, str | None], Asset]

    def catalogue(self, networks: Mapping[str, str] | None = None) -> Catalogue:
        """What holds on these networks (chain id → network as its node names it).

        Entries for one network are left out while the network of their chain is not known.
        """
        chosen: dict[str, Asset] = {}
        for (name, network), asset in self.assets.items():
            if network is None:
                chosen.setdefault(name, asset)
            elif network == (networks or {}).get(asset.chain):
                chosen[name] = asset
        return Catalogue(chains=self.chains.values(), assets=chosen.values())


def load_catalogue(
    override: Path | None = None, *, networks: Mapping[str, str] | None = None
) -> Catalogue:
    """The catalogue of this process; see `load_table` for errors, `AssetTable` for `networks`."""
    return load_table(override).catalogue(networks)


def load_table(override: Path | None = None) -> AssetTable:
    """The built-in table, with the entries of `override` added or in place of those they name.

    Raises CatalogueFileError with every problem found.
    """
    base = _read(BUILT_IN, AssetTable({}, {}))
    return base if override is None else _read(override, base)


def _read(path: Path, base: AssetTable) -> AssetTable:
    document = _document(path)
    problems: list[str] = []
    for section in document:
        if section not in _SECTIONS:
            near = difflib.get_close_matches(section, _SECTIONS, n=1)
            hint = f"did you mean [[{near[0]}]]?" if near else "known are [[chain]] and [[asset]]"
            problems.append(f"{path}: unknown section {section!r}; {hint}")
    chains: dict[str, Chain] = {}
    for entry in _entries(path, "chain", document, CHAIN, problems):
        chain = read_chain(entry)
        if chain is not None and _is_new(entry, chain.id, chains):
            _check_chain(entry, chain, base)
            chains[chain.id] = chain
    known = {**base.chains, **chains}
    assets: dict[tuple[str, str | None], Asset] = {}
    for entry in _entries(path, "asset", document, ASSET, problems):
        found = read_asset(entry, known)
        if found is not None and _is_new(entry, found[0], assets):
            _check_asset(entry, found[1], base)
            assets[found[0]] = found[1]
    if problems:
        raise CatalogueFileError(problems)
    table = AssetTable(MappingProxyType(known), MappingProxyType({**base.assets, **assets}))
    _check_whole(path, table)
    return table


def _document(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CatalogueFileError(
            [f"{path}: {reason}; the setting assets.file must name a readable file"]
        ) from error
    if len(content) > MAX_FILE_BYTES:
        raise CatalogueFileError([f"{path}: larger than {MAX_FILE_BYTES} bytes"])
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        raise CatalogueFileError([f"{path}: byte {error.start + 1} is not UTF-8"]) from error
    except (ValueError, RecursionError) as error:
        # Besides TOMLDecodeError: a number of thousands of digits, arrays nested without end.
        raise CatalogueFileError([f"{path}: not TOML: {error}"]) from error


def _entries(
    path: Path,
    section: str,
    document: dict[str, Any],
    fields: tuple[str, ...],
    problems: list[str],
) -> Iterable[Entry]:
    tables = document.get(section, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        problems.append(f"{path}: {section} must be written as [[{section}]], once for each entry")
        return
    for number, table in enumerate(tables, start=1):
        name = table.get("id")
        named = f" ({name})" if isinstance(name, str) and len(name) <= 40 else ""
        yield Entry(f"{path}: {section} {number}{named}", table, fields, problems)


def _is_new(entry: Entry, key: object, seen: Mapping[Any, object]) -> bool:
    if key in seen:
        entry.problem("id", "a second entry of this id (and network) in the same file")
    return key not in seen


def _check_chain(entry: Entry, chain: Chain, base: AssetTable) -> None:
    """What drivers and stored invoices rely on can not be replaced."""
    known = base.chains.get(chain.id)
    if known is not None and chain.family != known.family:
        entry.problem("family", f"can not be changed from {known.family!r}: {chain.id} is built in")
    if known is not None and chain.coin != known.coin:
        entry.problem("coin", f"can not be changed from {known.coin!r}: {chain.id} is built in")


def _check_asset(entry: Entry, asset: Asset, base: AssetTable) -> None:
    known = base.assets.get((asset.id, None))
    if known is None or known.contract is not None:
        return
    coin = f"{asset.id} is the coin of {known.chain}"
    if asset.chain != known.chain:
        entry.problem("chain", f"can not be changed from {known.chain!r}: {coin}")
    if asset.contract is not None:
        entry.problem("contract", f"must be left out: {coin}")
    if asset.exponent != known.exponent:
        entry.problem("exponent", f"can not be changed from {known.exponent}: {coin}")


def _check_whole(path: Path, table: AssetTable) -> None:
    problems: list[str] = []
    contracts: dict[tuple[str, str | None, bytes], str] = {}
    chains: dict[str, str] = {}
    for (name, network), asset in table.assets.items():
        if chains.setdefault(name, asset.chain) != asset.chain:
            problems.append(
                f"{path}: asset {name}: chain: {asset.chain!r} on network {network}, but"
                f" {chains[name]!r} elsewhere; one id is one chain's"
            )
        if asset.contract is not None:
            other = contracts.setdefault((asset.chain, network, asset.contract), name)
            if other != name:
                problems.append(
                    f"{path}: asset {name}: contract: the same as that of {other}; a payment could "
                    "not be told apart"
                )
    names: dict[str, str] = {}
    for chain in table.chains:
        twin = names.setdefault(chain.replace("-", "_"), chain)
        if twin != chain:
            problems.append(
                f"{path}: chain {chain}: id: differs from {twin} by - and _ only; the environment"
                " names of their settings would be the same"
            )
    if problems:
        raise CatalogueFileError(problems)
    # Whatever the nodes will say, so that no start fails later than this.
    networks = {(asset.chain, network) for (_, network), asset in table.assets.items() if network}
    for chosen in ({}, *({chain: network} for chain, network in sorted(networks))):
        try:
            table.catalogue(chosen)
        except CatalogueError as error:
            raise CatalogueFileError([f"{path}: {error}"]) from error
