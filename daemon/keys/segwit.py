"""Native segwit version 0 addresses of a key hash (BIP-141, BIP-173).

Written for one shape, a 20-byte program, because every invoice passes here: bip-utils' general
encoder takes longer than the elliptic curve.
"""

from functools import cache, reduce
from operator import xor

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
# What the five bits that leave the 30-bit checksum register put back into it.
_FEEDBACK = tuple(
    reduce(xor, (g for bit, g in enumerate(_GENERATORS) if top >> bit & 1), 0) for top in range(32)
)


def p2wpkh_script(key_hash: bytes) -> bytes:
    """The scriptPubKey: OP_0 and a push of the 20-byte HASH160 of the compressed key."""
    assert len(key_hash) == 20
    return b"\x00\x14" + key_hash


def p2wpkh_address(hrp: str, key_hash: bytes) -> str:
    """The bech32 address of the 20-byte HASH160 under the human-readable part `hrp`."""
    assert len(key_hash) == 20
    number = int.from_bytes(key_hash, "big")
    # Witness version 0, then the 160 bits in groups of five.
    data = [0, *(number >> shift & 31 for shift in range(155, -1, -5))]
    register = _absorb(_after_hrp(hrp), [*data, 0, 0, 0, 0, 0, 0]) ^ 1
    data += [register >> shift & 31 for shift in range(25, -1, -5)]
    return f"{hrp}1{''.join([_CHARSET[value] for value in data])}"


@cache  # as many entries as there are networks in `daemon.keys.forms`
def _after_hrp(hrp: str) -> int:
    return _absorb(1, [*(ord(c) >> 5 for c in hrp), 0, *(ord(c) & 31 for c in hrp)])


def _absorb(register: int, values: list[int]) -> int:
    for value in values:
        register = (register & 0x1FFFFFF) << 5 ^ value ^ _FEEDBACK[register >> 25]
    return register
