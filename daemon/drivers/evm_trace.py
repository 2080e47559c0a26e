"""Transfers of value inside transactions, out of a node's traces; pure.

Two forms: geth's callTracer (nested frames, debug_traceBlockByNumber) and the flat list that
OpenEthereum began (trace_block). Both list the same transfers in the same order, so a payment has
the same place whichever node tells of it. The outermost frame is the transaction's own value and
is left out; nothing at or below a frame with an error has happened. A DELEGATECALL or CALLCODE
shows a value that does not move.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from daemon.drivers.evm_wire import (
    ADDRESS_BYTES,
    InternalTransfer,
    Json,
    OtherBlockError,
    WireError,
    data,
    quantity,
)

_MOVING_FRAMES = frozenset(("CALL", "CREATE", "CREATE2", "SELFDESTRUCT"))
_NOTHING = (None, "0x0", "0x")


class TraceMissingError(WireError):
    """The node answered, but could not trace a transaction: its state is gone."""


def from_call_tracer(
    answer: object, hashes: Sequence[str], *, tolerant: bool = False
) -> dict[str, list[InternalTransfer]]:
    """Transfers by transaction, of a block with these transactions in this order.

    If `tolerant`, a transaction that could not be traced has none.

    Raises WireError, OtherBlockError, TraceMissingError.
    """
    if not isinstance(answer, list) or not all(isinstance(entry, dict) for entry in answer):
        raise WireError("no list of traces")
    if [entry.get("txHash", txid) for entry, txid in zip(answer, hashes, strict=False)] != list(
        hashes
    ) or len(answer) != len(hashes):
        raise OtherBlockError(f"traces of {len(answer)} other transactions")
    found: dict[str, list[InternalTransfer]] = {}
    for txid, entry in zip(hashes, answer, strict=True):
        frame = entry.get("result")
        if not isinstance(frame, dict):
            if tolerant:
                continue
            raise TraceMissingError(f"no trace of {txid}: {str(entry.get('error'))[:80]}")
        if "calls" in frame:
            try:
                transfers = _nested(frame)
            except (KeyError, TypeError, AttributeError) as error:
                raise WireError(f"a trace without {error}") from None
            if transfers:
                found[txid] = transfers
    return found


def _nested(outermost: Json) -> list[InternalTransfer]:
    transfers: list[InternalTransfer] = []
    if outermost.get("error") is not None:
        return transfers
    # Depth first, as executed, without recursion: calls nest up to 1024 deep.
    waiting: list[Json] = outermost["calls"][::-1]
    while waiting:
        frame = waiting.pop()
        if frame.get("error") is not None:
            continue
        if frame["type"] in _MOVING_FRAMES and frame.get("value") not in _NOTHING:
            _note(transfers, frame.get("to"), frame["value"])
        calls = frame.get("calls")
        if calls:
            waiting.extend(calls[::-1])
    return transfers


def from_trace_block(
    answer: object, block_hash: str, hashes: Sequence[str]
) -> dict[str, list[InternalTransfer]]:
    """Transfers by transaction, of the block with these transactions.

    An empty list for a block with transactions is none of it: such nodes say so for blocks that
    they do not have. Raises WireError, OtherBlockError.
    """
    if not isinstance(answer, list):
        raise WireError("no list of traces")
    entries: dict[str, list[Json]] = {}
    try:
        for entry in answer:
            if entry["blockHash"] != block_hash:
                raise OtherBlockError(f"traces of another block than {block_hash}")
            txid = entry.get("transactionHash")
            if txid is not None:  # rewards have none
                entries.setdefault(txid, []).append(entry)
        if set(hashes) - entries.keys():
            raise OtherBlockError(f"no traces of some transactions of block {block_hash}")
        return {
            txid: transfers for txid, own in entries.items() if len(own) > 1
            if (transfers := _flat(own))
        }  # fmt: skip
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise WireError(f"a trace without {error}") from None


def _flat(entries: list[Json]) -> list[InternalTransfer]:
    transfers: list[InternalTransfer] = []
    failed: list[int] | None = None
    for entry in entries:
        path = entry["traceAddress"]
        if failed is not None and path[: len(failed)] == failed:
            continue
        failed = path if entry.get("error") is not None else None
        if failed is None and path:
            _note_action(transfers, entry)
    return transfers


def _note_action(transfers: list[InternalTransfer], entry: Json) -> None:
    action, kind = entry["action"], entry["type"]
    if kind == "call" and action.get("callType", "call") == "call":
        payee, value = action.get("to"), action.get("value")
    elif kind == "create":
        payee, value = entry["result"]["address"], action.get("value")
    elif kind in ("suicide", "selfdestruct"):
        payee, value = action.get("refundAddress"), action.get("balance")
    else:
        return
    if value not in _NOTHING:
        _note(transfers, payee, value)


def _note(transfers: list[InternalTransfer], payee: Any, value: Any) -> None:
    amount_base = quantity(value)
    if amount_base:
        destination = data(payee, ADDRESS_BYTES)
        transfers.append(InternalTransfer(len(transfers), destination, amount_base))
