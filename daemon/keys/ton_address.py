"""TON's addresses: 33 bytes inside, workchain (signed) and account id; two forms of text outside.

The friendly form (TEP-2) says how to send and whether it is for a test network, and has a checksum;
the raw form is `workchain:hexadecimal digits`.
"""

from __future__ import annotations

import base64
import re

from pytoniq_core import Address, AddressError

ADDRESS_BYTES = 33
_RAW = re.compile(r"(-1|0):([0-9a-fA-F]{64})")
_FRIENDLY = re.compile(r"[A-Za-z0-9_-]{48}")
_TEST_ONLY = 0x80
_TAGS = (0x11, 0x51)
"""Bounceable and not."""


def friendly(address: bytes, *, test: bool) -> str:
    """The non-bounceable form (UQ…, for test networks 0Q…): what is sent to a wallet stays there,
    even while its contract is not deployed.
    """
    assert len(address) == ADDRESS_BYTES
    found = Address((int.from_bytes(address[:1], "big", signed=True), address[1:]))
    return str(found.to_str(is_bounceable=False, is_test_only=test))


def parse_address(text: str, *, network: str | None = None) -> bytes:
    """The 33 bytes of an address in either form; ValueError says what is wrong with it.

    On a `network` other than a test network the mark of test networks is refused.
    """
    raw = _RAW.fullmatch(text)
    if raw is not None:
        return int(raw[1]).to_bytes(1, "big", signed=True) + bytes.fromhex(raw[2])
    plain = text.replace("+", "-").replace("/", "_")
    if _FRIENDLY.fullmatch(plain) is None:
        raise ValueError(
            "not an address: 48 characters of base64 (EQ…, UQ…) or workchain:64 hexadecimal digits"
            " are expected"
        )
    try:
        Address(plain)
    except AddressError:
        raise ValueError("its checksum does not match: a character is mistyped") from None
    data = base64.urlsafe_b64decode(plain)
    tag, workchain = data[0], data[1:2]
    if tag & ~_TEST_ONLY not in _TAGS or workchain not in (b"\0", b"\xff"):
        raise ValueError("not an address: its first bytes name no kind or workchain that there is")
    if tag & _TEST_ONLY and network == "mainnet":
        raise ValueError("it is marked as an address of a test network (kQ…, 0Q…)")
    return data[1:34]


def is_address(text: str) -> bool:
    """Is it an address, in either form?"""
    try:
        parse_address(text)
    except ValueError:
        return False
    return True
