"""Monero addresses as text and keys, for tests: no code shared with the daemon's.

The text is base58 in blocks of 8 bytes (11 characters), over a prefix byte, the public spend key,
the public view key and the first four bytes of Keccak-256 over these.
"""

from typing import NamedTuple

import sha3

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_SIZES = (0, 2, 3, 5, 6, 7, 9, 10, 11)  # characters for so many bytes
MAINNET, MAINNET_SUBADDRESS = 18, 42


class Keys(NamedTuple):
    """What an address says."""

    prefix: int
    spend: bytes
    view: bytes


def decode(address: str) -> Keys:
    """Return the keys of an address without payment id; raises ValueError if it is not one."""
    data = b"".join(_decode_block(address[at : at + 11]) for at in range(0, len(address), 11))
    if len(data) != 69 or keccak(data[:-4])[:4] != data[-4:]:
        raise ValueError(f"{address} is not an address of 65 bytes with a right checksum")
    return Keys(data[0], data[1:33], data[33:65])


def encode(keys: Keys) -> str:
    """Return an address as text."""
    data = bytes([keys.prefix]) + keys.spend + keys.view
    data += keccak(data)[:4]
    return "".join(_encode_block(data[at : at + 8]) for at in range(0, len(data), 8))


def keccak(data: bytes) -> bytes:
    """Keccak-256 as Monero and Ethereum have it: the padding from before SHA-3."""
    return bytes(sha3.keccak_256(data).digest())


def _decode_block(text: str) -> bytes:
    number = 0
    for letter in text:
        number = number * 58 + _ALPHABET.index(letter)
    return number.to_bytes(_SIZES.index(len(text)), "big")


def _encode_block(data: bytes) -> str:
    number, text = int.from_bytes(data, "big"), ""
    for _ in range(_SIZES[len(data)]):
        number, digit = divmod(number, 58)
        text = _ALPHABET[digit] + text
    return text
