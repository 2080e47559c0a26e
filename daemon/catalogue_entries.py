"""One entry of the asset data: its fields, checked one by one, with every problem in words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any

from actors.core.assets import MAX_EXPONENT, Asset, Chain
from daemon.keys import evm, ton_address

CHAIN = (
    "id",
    "name",
    "family",
    "coin",
    "block_time_s",
    "confirmations",
    "networks",
    "unlock_blocks",
)
ASSET = ("id", "chain", "symbol", "name", "exponent", "contract", "network")
FAMILIES = ("bitcoin", "evm", "monero", "ton")
_CONTRACTS: Mapping[str, Callable[[str, str | None], bytes]] = {
    "evm": lambda text, _network: evm.parse_address(text),
    "ton": lambda text, network: ton_address.parse_address(text, network=network),
}
"""Family → parser of a contract's text on a network (None: any), which raises ValueError; others
have no tokens here."""
_CHAIN_ID = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_ASSET_ID = re.compile(r"[A-Z0-9][A-Z0-9_]{0,31}")
_MAX_CONFIRMATIONS = 2**32 - 1
_MAX_UNLOCK_BLOCKS = 100_000
MAX_CHAIN_ID = 2**63 - 1
_CHAIN_ID_TEXT = re.compile(r"[1-9][0-9]{0,18}")
_MAX_TEXT_CHARS = 64
_MAX_CONTRACT_CHARS = 67
"""TON's raw form: workchain, colon and 64 digits."""


class Entry:
    """A table of the file. Readers return None for a field that is wrong, having said why."""

    def __init__(
        self, where: str, table: Mapping[str, Any], fields: tuple[str, ...], problems: list[str]
    ) -> None:
        self._where = where
        self._table = table
        self._problems = problems
        for name in table:
            if name not in fields:
                near = difflib.get_close_matches(name, fields, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(fields)}"
                self.problem(name, f"unknown field; {hint}")

    def problem(self, field: str, message: str) -> None:
        self._problems.append(f"{self._where}: {field}: {message}")

    def has(self, field: str) -> bool:
        return field in self._table

    def text(self, field: str, *, most: int = _MAX_TEXT_CHARS) -> str | None:
        value = self._value(field)
        if value is None:
            return None
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            self.problem(field, f"must be a text in quotes, not {_shown(value)}")
            return None
        if len(value) > most:
            self.problem(field, f"longer than {most} characters")
            return None
        return value

    def name(self, field: str, pattern: re.Pattern[str], rule: str) -> str | None:
        value = self.text(field)
        if value is not None and not pattern.fullmatch(value):
            self.problem(field, f"{value!r} must be {rule}")
            return None
        return value

    def choice(self, field: str, choices: Mapping[str, Any] | tuple[str, ...]) -> str | None:
        value = self.text(field)
        if value is not None and value not in choices:
            near = difflib.get_close_matches(value, choices, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(choices)}"
            self.problem(field, f"{value!r} is not known; {hint}")
            return None
        return value

    def whole(self, field: str, low: int, high: int) -> int | None:
        value = self._value(field)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.problem(field, f"must be a whole number {low}..{high}, not {_shown(value)}")
            return None
        return value

    def seconds(self, field: str) -> float | None:
        value = self._value(field)
        if value is None:
            return None
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 < value <= 86_400:
            self.problem(field, f"must be seconds above 0, up to 86400, not {_shown(value)}")
            return None
        return float(value)

    def network(self, family: str | None) -> str | None:
        """A network's name; of an EVM chain its chain id, as a number or a text.

        None when the entry names none, or a wrong one.
        """
        if not self.has("network"):
            return None
        if isinstance(self._table["network"], int):
            number = self.whole("network", 1, MAX_CHAIN_ID)
            return None if number is None else str(number)
        value = self.text("network")
        if value is not None and family == "evm" and not _is_chain_id(value):
            self.problem("network", f"{value!r} must be a chain id, such as 1")
            return None
        return value

    def networks(self, family: str | None) -> tuple[str, ...] | None:
        """The chain's networks in the order of the file; None when one of them is wrong."""
        value = self._table.get("networks", [])
        what = "chain ids" if family == "evm" else "names in quotes"
        if not isinstance(value, list) or ("networks" in self._table and not value):
            self.problem("networks", f"must be a list of {what}, not {_shown(value)}")
            return None
        found: list[str] = []
        for one in value:
            is_id = isinstance(one, int) and not isinstance(one, bool)
            name = str(one) if is_id and family == "evm" else one
            if not isinstance(name, str) or not _is_network(name, family):
                self.problem("networks", f"must be a list of {what}; {_shown(one)} is none")
                return None
            if name in found:
                self.problem("networks", f"{name} stands there twice")
                return None
            found.append(name)
        return tuple(found)

    def contract(self, family: str, network: str | None) -> bytes | None:
        value = self.text("contract", most=_MAX_CONTRACT_CHARS)
        if value is None:
            return None
        parse = _CONTRACTS.get(family)
        if parse is None:
            self.problem("contract", f"chains of the family {family} have no token contracts here")
            return None
        try:
            return parse(value, network)
        except ValueError as error:
            self.problem("contract", str(error))
            return None

    def _value(self, field: str) -> Any:
        if field not in self._table:
            self.problem(field, "missing")
        return self._table.get(field)


def read_chain(entry: Entry) -> Chain | None:
    """The chain, or None when any of its fields is wrong."""
    chain_id = entry.name("id", _CHAIN_ID, "lower-case letters and digits, a letter first")
    name = entry.text("name")
    family = entry.choice("family", FAMILIES)
    coin = entry.name("coin", _ASSET_ID, "an asset's id, in capitals")
    block_time_s = entry.seconds("block_time_s")
    confirmations = entry.whole("confirmations", 0, _MAX_CONFIRMATIONS)
    networks = entry.networks(family)
    unlock_blocks: int | None = 0
    if entry.has("unlock_blocks"):
        unlock_blocks = entry.whole("unlock_blocks", 0, _MAX_UNLOCK_BLOCKS)
    if (
        chain_id is None
        or name is None
        or family is None
        or coin is None
        or block_time_s is None
        or confirmations is None
        or networks is None
        or unlock_blocks is None
    ):
        return None
    return Chain(chain_id, name, family, coin, block_time_s, confirmations, networks, unlock_blocks)


def read_asset(
    entry: Entry, chains: Mapping[str, Chain]
) -> tuple[tuple[str, str | None], Asset] | None:
    """The asset under (id, network), or None when any of its fields is wrong."""
    asset_id = entry.name("id", _ASSET_ID, "capitals, digits and _")
    chain = entry.choice("chain", chains)
    symbol, name = entry.text("symbol"), entry.text("name")
    exponent = entry.whole("exponent", 0, MAX_EXPONENT)
    family = None if chain is None else chains[chain].family
    network = entry.network(family)
    contract = None
    if family is not None and entry.has("contract"):
        contract = entry.contract(family, network)
    wrong = (entry.has("contract") and contract is None) or (entry.has("network") and not network)
    if (
        wrong
        or asset_id is None
        or chain is None
        or symbol is None
        or name is None
        or exponent is None
    ):
        return None
    return (asset_id, network), Asset(asset_id, chain, symbol, name, exponent, contract)


def _is_network(text: str, family: str | None) -> bool:
    if family == "evm":
        return _is_chain_id(text)
    return bool(text.strip()) and text.isprintable() and len(text) <= _MAX_TEXT_CHARS


def _is_chain_id(text: str) -> bool:
    return bool(_CHAIN_ID_TEXT.fullmatch(text)) and int(text) <= MAX_CHAIN_ID


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
