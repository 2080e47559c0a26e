"""The public key that a TON wallet's addresses are made of: what a person gives, checked.

Mistakes are told in words, and no answer repeats any part of what was given. Source: RFC 8032.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from hashlib import sha256

from nacl.bindings import crypto_core_ed25519_is_valid_point

from actors.core.outcomes import KeyRefused
from daemon.keys import diagnosis, extended
from daemon.keys.ton_address import is_address

KEY_FIELD = "masterPubKey"
EXPECTED = (
    "expected is the wallet's public key: 32 bytes as 64 hexadecimal digits or as base64 of 43 or"
    " 44 characters"
)
_KEY_BYTES = 32
_HEX = re.compile(r"(?:0[xX])?([0-9a-fA-F]+)")
_BASE64 = re.compile(r"([A-Za-z0-9_-]{22,88}|[A-Za-z0-9+/]{22,88})={0,2}")
_LINK = re.compile(r"(?:ton://transfer/|https://[a-z.]+/(?:transfer/)?)([^?/]+).*", re.DOTALL)
_SPEND = (
    "It can spend the money, so it must never leave your wallet: give the public key instead, and"
    " consider what you sent exposed: move the funds to a new wallet. It was not stored"
)


@dataclass(frozen=True, slots=True)
class TonKey:
    """A checked public key: a point of the prime-order group of ed25519."""

    point: bytes = field(repr=False)
    """32 bytes."""

    @property
    def canonical(self) -> str:
        return self.point.hex()

    @property
    def description(self) -> str:
        """For people, without the key: `TON public key, fingerprint 1a2b3c4d`."""
        return f"TON public key, fingerprint {sha256(self.point).hexdigest()[:8]}"


def parse(chain: str, text: str) -> TonKey | KeyRefused:
    """The key that `text` is, in hexadecimal digits (0x may stand before) or base64, either kind.

    White space around it is ignored.
    """
    found = _read(text)
    return KeyRefused(chain, KEY_FIELD, found) if isinstance(found, str) else found


def _read(text: str) -> TonKey | str:
    if len(text) > diagnosis.MAX_CHARS:
        return f"it has {len(text)} characters; {EXPECTED}"
    text = text.strip()
    if not text:
        return f"it is empty; {EXPECTED}"
    data = _other_thing(text) or _bytes(text)
    if isinstance(data, str):
        return data
    return _fault(data) or TonKey(data)


def _bytes(text: str) -> bytes | str:
    """What hexadecimal digits or base64 stand for, or why they are no key."""
    digits = _HEX.fullmatch(text)
    # 43 or 44 hexadecimal digits are a key in base64 by a chance of one in 10**27.
    count = 0 if digits is None else len(digits[1])
    if digits is None or count in (43, 44):
        return _from_base64(text) or f"not recognised; {EXPECTED}"
    if count in (64, 128):
        return bytes.fromhex(digits[1])
    short = "; explorers leave out zeros at the front: put them back" if count < 64 else ""
    return f"it has {count} hexadecimal digits of 64{short}; {EXPECTED}"


def _fault(data: bytes) -> str | None:
    """Why bytes are no key, if they are none."""
    if len(data) == 2 * _KEY_BYTES:
        return f"these are 64 bytes, as a wallet's secret key (keyPair.secretKey) has. {_SPEND}"
    if len(data) != _KEY_BYTES:
        return f"it has {len(data)} bytes of 32; {EXPECTED}"
    if not crypto_core_ed25519_is_valid_point(data):
        return (
            "it is no public key: these 32 bytes name no point of the curve ed25519, or one outside"
            " of its prime-order group, which no wallet makes. Should it be the private key, it is"
            " exposed now: move the funds to a new wallet. It was not stored"
        )
    return None


def _from_base64(text: str) -> bytes | None:
    """What base64 of either kind stands for; None for any other text."""
    if _BASE64.fullmatch(text) is None:
        return None
    bare = text.rstrip("=").replace("+", "-").replace("/", "_")
    if len(bare) % 4 == 1:
        return None
    data = base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
    # The unused bits of the last character are zero: one text per key, or a character is wrong.
    same = base64.urlsafe_b64encode(data).decode("ascii").rstrip("=") == bare
    return data if same else None


def _other_thing(text: str) -> str | None:
    words = diagnosis.seed_words(text)
    if words:
        return f"this is a list of {words} words, as a wallet's seed phrase is. {_SPEND}"
    link = _LINK.fullmatch(text)
    if is_address(link[1] if link else text):
        return (
            "this is an address: tallyd gives every invoice an address or a comment of its own and"
            f" needs the key that the wallet is made of; {EXPECTED}"
        )
    if extended.parse(text) is not None:
        return (
            "this is an extended public key, as Bitcoin and Ethereum have; TON's keys are on"
            f" another curve, ed25519; {EXPECTED}"
        )
    if _HEX.fullmatch(text) is None and (secret := diagnosis.secret_in(text)):
        return f"this is {secret}. {_SPEND}"
    return None
