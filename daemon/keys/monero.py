"""The two keys that watch a Monero wallet: what a person gives, checked, with mistakes in words.

The private view key sees every payment to the wallet and spends none. No answer repeats any part of
what was given. Source: "Zero to Monero" 2.0, chapters 2 and 4; curve ed25519 of RFC 8032.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from actors.core.outcomes import KeyRefused
from daemon.keys import diagnosis
from daemon.keys.monero_address import (
    hash_to_scalar,
    is_key,
    is_scalar,
    keccak,
    public_key,
)

VIEW_FIELD, SPEND_FIELD = "privViewKey", "pubSpendKey"
EXPECTED = (
    "expected are the private view key and the public spend key, 64 hexadecimal digits each,"
    " written as VIEW:SPEND"
)
_HEX = re.compile(r"[0-9a-fA-F]{64}")
# Primary and integrated addresses and subaddresses of all networks: 69 or 77 bytes.
_ADDRESS = re.compile(r"(?:monero:)?[1-9A-HJ-NP-Za-km-z]{95}(?:[1-9A-HJ-NP-Za-km-z]{11})?(?:\?.*)?")
_SWAPPED = (
    "; the two look as if they were the wrong way round: the private view key comes first, then"
    " the public spend key"
)


@dataclass(frozen=True, slots=True)
class MoneroKeys:
    """A checked pair: a scalar from 1 to the group's order, a point of the prime-order group."""

    view: bytes = field(repr=False)
    """Private, 32 bytes."""
    spend: bytes = field(repr=False)
    """Public, 32 bytes."""

    @property
    def canonical(self) -> str:
        """Public spend key and public view key, 128 digits: nothing secret, one text per wallet."""
        return (self.spend + public_key(self.view)).hex()

    @property
    def description(self) -> str:
        """For people, without the keys: `Monero view-only wallet, fingerprint 1a2b3c4d`."""
        fingerprint = keccak(bytes.fromhex(self.canonical))[:4].hex()
        return f"Monero view-only wallet, fingerprint {fingerprint}"


def spend_key_of(canonical: str) -> bytes:
    """The public spend key in a MoneroKeys.canonical."""
    return bytes.fromhex(canonical[:64])


def parse(chain: str, text: str) -> MoneroKeys | KeyRefused:
    """The keys in `VIEW:SPEND`; the refusal's `field` says which of the two is wrong.

    The view key is checked first. White space around either is ignored.
    """
    if len(text) > diagnosis.MAX_CHARS:
        return _view(chain, f"it has {len(text)} characters; {EXPECTED}")
    first, separator, second = (part.strip() for part in text.partition(":"))
    if not separator or _ADDRESS.fullmatch(text.strip()):
        return _view(chain, _one_thing(text.strip()))
    view, spend = _bytes(first), _bytes(second)
    if view is None:
        return _view(chain, _not_hex("private view key", first))
    hint = _SWAPPED if spend is not None and is_key(view) and is_scalar(spend) else ""
    if not is_scalar(view):
        return _view(
            chain, f"the private view key is not a canonical scalar (1 to the group order){hint}"
        )
    if spend is None:
        return _spend(chain, _not_hex("public spend key", second))
    wrong = _spend_fault(view, spend)
    return MoneroKeys(view, spend) if wrong is None else _spend(chain, wrong + hint)


def _spend_fault(view: bytes, spend: bytes) -> str | None:
    """What is wrong with a spend key beside a good view key, if anything is."""
    if hash_to_scalar(spend) == view:
        # How wallets make their view key; nobody else could know it.
        return _exposed("this is the wallet's private spend key")
    if not is_key(spend):
        return "the public spend key is not a point on the curve, or outside its prime-order group"
    if public_key(view) == spend:
        return (
            "the second key is the public key of the first one: give the public spend key beside"
            " the private view key. Should the first one be the private spend key, it is exposed"
            " now: move the funds to a new wallet. Neither was stored"
        )
    return None


def _bytes(text: str) -> bytes | None:
    return bytes.fromhex(text) if _HEX.fullmatch(text) else None


def _not_hex(name: str, text: str) -> str:
    if not text:
        return f"one of the keys is missing; {EXPECTED}"
    return _other_thing(text) or f"the {name} must be 64 hexadecimal digits"


def _one_thing(text: str) -> str:
    """What stands there instead of two keys."""
    if not text:
        return f"it is empty; {EXPECTED}"
    if _HEX.fullmatch(text):
        return f"this is one key only; {EXPECTED}"
    if re.fullmatch(r"[0-9a-fA-F]{128}", text):
        return f"there is no colon between the two keys; {EXPECTED}"
    return _other_thing(text) or f"not recognised; {EXPECTED}"


def _other_thing(text: str) -> str | None:
    words = diagnosis.seed_words(text)
    if words:
        return _exposed(f"this is a list of {words} words, as a wallet's seed phrase is")
    if _ADDRESS.fullmatch(text):
        return (
            "this is an address: tallyd gives every invoice an address of its own and needs the"
            f" keys that they are made of; {EXPECTED}"
        )
    return None


def _exposed(what: str) -> str:
    return (
        f"{what}. It can spend the money, so it must never leave your wallet: give the private"
        " view key and the public spend key instead, and consider what you sent exposed: move the"
        " funds to a new wallet. It was not stored"
    )


def _view(chain: str, reason: str) -> KeyRefused:
    return KeyRefused(chain, VIEW_FIELD, reason)


def _spend(chain: str, reason: str) -> KeyRefused:
    return KeyRefused(chain, SPEND_FIELD, reason)
