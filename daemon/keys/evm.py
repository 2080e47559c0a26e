"""Addresses of the EVM family: 20 bytes inside, EIP-55 text at the edge."""

import re

from bip_utils import Kekkak256
from coincurve import PublicKey

_HEX_ADDRESS = re.compile(r"0[xX]([0-9a-fA-F]{40})")


def address_of(key: PublicKey) -> bytes:
    """The last 20 bytes of Keccak-256 over the 64 bytes of the point (Yellow Paper, appendix F)."""
    return _keccak(key.format(compressed=False)[1:])[12:]


def checksummed(address: bytes) -> str:
    """The EIP-55 text of a 20-byte address."""
    assert len(address) == 20
    digits = address.hex()
    marks = _keccak(digits.encode()).hex()
    # A digit stays as it is under upper().
    return "0x" + "".join(
        digit.upper() if mark >= "8" else digit for digit, mark in zip(digits, marks, strict=False)
    )


def parse_address(text: str) -> bytes:
    """The 20 bytes of an address; capitals, where mixed, must be those of EIP-55.

    ValueError says what is wrong with it.
    """
    found = _HEX_ADDRESS.fullmatch(text)
    if found is None:
        raise ValueError("not an address: 0x and 40 hexadecimal digits are expected")
    digits = found[1]
    address = bytes.fromhex(digits)
    if digits not in (digits.lower(), digits.upper()) and checksummed(address)[2:] != digits:
        raise ValueError("capitals do not match its EIP-55 checksum: a digit is mistyped")
    return address


def _keccak(data: bytes) -> bytes:
    return bytes(Kekkak256.QuickDigest(data))
