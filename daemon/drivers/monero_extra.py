"""The `extra` of a Monero transaction, where its public keys are; pure.

Source: Monero's `tx_extra.h` and `parse_tx_extra` (monero-project/monero). Consensus does not look
into `extra`: whoever makes a transaction writes there what he likes.
"""

from __future__ import annotations

from daemon.drivers.monero_varint import read_varint

_KEY_BYTES = 32
_ROOT_BYTES = 32
_PUBKEY = 0x01
_NONCE = 0x02
_MERGE_MINING = 0x03
_ADDITIONAL_PUBKEYS = 0x04
_MINERGATE = 0xDE
_SIZED = frozenset((_NONCE, _MERGE_MINING, _ADDITIONAL_PUBKEYS, _MINERGATE))
_NONCE_MOST_BYTES = 255


def parse_extra(extra: bytes) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """The transaction public keys and the additional ones in `extra`; never an error.

    As monerod and its wallet read it: fields one after another; at the first that is malformed or
    unknown reading stops, and that field, even if only its end is missing, counts for nothing.
    """
    tx_keys: list[bytes] = []
    additional: tuple[bytes, ...] | None = None
    pos = 0
    size = len(extra)
    while pos < size:
        tag = extra[pos]
        if tag == _PUBKEY:
            start, pos = pos + 1, pos + 1 + _KEY_BYTES
            if pos > size:
                break
            tx_keys.append(extra[start:pos])
            continue
        # Zeros are padding up to the end, or a fault; in either case no key follows them.
        read = read_varint(extra, pos + 1) if tag in _SIZED else None
        if read is None:
            break
        count, start = read
        pos = start + count * (_KEY_BYTES if tag == _ADDITIONAL_PUBKEYS else 1)
        if pos > size or not _is_field_sound(extra, tag, start, pos):
            break
        if tag == _ADDITIONAL_PUBKEYS and additional is None:
            additional = tuple(
                [extra[at : at + _KEY_BYTES] for at in range(start, pos, _KEY_BYTES)]
            )
    return tuple(tx_keys), additional or ()


def _is_field_sound(extra: bytes, tag: int, start: int, end: int) -> bool:
    if tag == _NONCE:
        return end - start <= _NONCE_MOST_BYTES
    if tag == _MERGE_MINING:
        depth = read_varint(extra[:end], start)
        return depth is not None and depth[1] + _ROOT_BYTES == end
    return True
