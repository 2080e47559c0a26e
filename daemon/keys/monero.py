"""Checks of the two keys that watch a Monero wallet: private view key and public spend key.

Source: the Monero book "Zero to Monero" 2.0, chapters 2 and 4; curve ed25519 of RFC 8032.
"""

from __future__ import annotations

from bip_utils import MoneroPublicKey
from bip_utils.monero.monero_ex import MoneroKeyError

from actors.core.outcomes import KeyRefused

CHAIN = "xmr"
KEY_BYTES = 32
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493


def check_monero_keys(view_key: str, spend_key: str) -> KeyRefused | None:
    """None if both can be used: 64 hex digits each, a canonical scalar and a point of the curve."""
    view = _bytes(view_key)
    if view is None:
        return _refused("privViewKey", "it must be 64 hexadecimal digits")
    if not 0 < int.from_bytes(view, "little") < GROUP_ORDER:
        return _refused("privViewKey", "it is not a canonical scalar (1 to the group order)")
    spend = _bytes(spend_key)
    if spend is None:
        return _refused("pubSpendKey", "it must be 64 hexadecimal digits")
    try:
        MoneroPublicKey.FromBytes(spend)
    except (MoneroKeyError, ValueError):
        return _refused("pubSpendKey", "it is not a point on the curve")
    return None


def _bytes(text: str) -> bytes | None:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        return None
    # fromhex also takes blanks between the digits.
    return raw if len(raw) == KEY_BYTES and len(text) == 2 * KEY_BYTES else None


def _refused(field: str, reason: str) -> KeyRefused:
    return KeyRefused(CHAIN, field, reason)
