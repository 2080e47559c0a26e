"""As much of Solidity's contract ABI as the tests' contracts need: encoding calls."""

import re
from collections.abc import Sequence
from typing import Any

from tests.nodes.contracts import Contract

TRANSFER_TOPIC = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
"""Keccak-256 of `Transfer(address,address,uint256)` (ERC-20)."""

_SIGNATURE = re.compile(r"\w+\((?P<types>[^()]*)\)")


def call_data(contract: Contract, signature: str, *arguments: Any) -> str:
    """Return the `input` of a call: ``call_data(token, "transfer(address,uint256)", to, 5)``."""
    found = _SIGNATURE.fullmatch(signature)
    assert found is not None, signature
    types = [name for name in found["types"].split(",") if name]
    return "0x" + contract.selectors[signature] + encode(types, arguments).hex()


def create_data(contract: Contract, *arguments: Any) -> str:
    """Return the `input` of the transaction that deploys the contract."""
    constructors = [entry for entry in contract.abi if entry["type"] == "constructor"]
    types = [part["type"] for entry in constructors for part in entry["inputs"]]
    return "0x" + contract.bytecode.hex() + encode(types, arguments).hex()


def encode(types: Sequence[str], values: Sequence[Any]) -> bytes:
    """Encode arguments (Contract ABI Specification): addresses as text, integers, lists of both."""
    assert len(types) == len(values), (types, values)
    heads, tail = [], b""
    for name, value in zip(types, values, strict=True):
        if name.endswith("[]"):
            heads.append(_word(32 * len(types) + len(tail)))
            words = [_static(name.removesuffix("[]"), one) for one in value]
            tail += _word(len(words)) + b"".join(words)
        else:
            heads.append(_static(name, value))
    return b"".join(heads) + tail


def topic_of(address: str) -> str:
    """Return an address as it stands in a log's indexed topics."""
    return "0x" + address.lower().removeprefix("0x").rjust(64, "0")


def address_in(word: str) -> str:
    """Return the address that a 32-byte word holds, in small letters."""
    return "0x" + word.removeprefix("0x")[-40:].lower()


def _static(name: str, value: Any) -> bytes:
    if name == "address":
        return bytes.fromhex(value.removeprefix("0x")).rjust(32, b"\0")
    assert name.startswith("uint"), name
    return _word(value)


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")
