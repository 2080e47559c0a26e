"""A process that scans Monero transactions for the one that started it.

Work comes in on standard input, answers go out on standard output, both as frames: their length in
4 bytes, then so many. An order is what `order` packs, its answer that of `monero_scan.scan`; they
come strictly by turns. The end of the input is the end of the process, so it outlives nobody:
neither a parent that closed the pipe nor one that was killed. It needs no shared memory, no
semaphores and no files beyond the modules it imports.

View keys come over the pipe only. Nothing that was read is ever printed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import sys
from collections.abc import Sequence
from typing import BinaryIO

from daemon.drivers.monero_scan import KEY_BYTES, scan

FRAME_LIMIT = 64 << 20
"""Bytes. Orders are cut far smaller; what is larger is no frame."""
_FRAME = struct.Struct("<I")
HEAD_BYTES = _FRAME.size
_NICENESS = 5  # the event loop of the daemon goes first
_FAULT = 70  # sysexits(3): internal software error


def frame(content: bytes) -> bytes:
    return _FRAME.pack(len(content)) + content


def content_length(head: bytes) -> int:
    """How many bytes follow the 4 of a frame's head."""
    length: int = _FRAME.unpack(head)[0]
    if length > FRAME_LIMIT:
        raise ValueError(f"a frame of {length} bytes is over the limit of {FRAME_LIMIT}")
    return length


def order(packed: bytes, view_keys: Sequence[bytes]) -> bytes:
    """Scan these pieces with these view keys."""
    return _FRAME.pack(len(view_keys)) + b"".join(view_keys) + packed


def obey(content: bytes) -> bytes:
    """The answer to an order."""
    pieces_at = _FRAME.size + KEY_BYTES * _FRAME.unpack_from(content)[0]
    view_keys = [content[at : at + KEY_BYTES] for at in range(_FRAME.size, pieces_at, KEY_BYTES)]
    return scan(content[pieces_at:], view_keys)


def serve(orders: BinaryIO, answers: BinaryIO) -> None:
    """Obey until the orders end."""
    while len(head := orders.read(_FRAME.size)) == _FRAME.size:
        length = content_length(head)
        content = orders.read(length)
        if len(content) < length:
            return
        answers.write(frame(obey(content)))
        answers.flush()


def main() -> None:
    # Whoever started this process ends it, in its own order: Ctrl-C and systemd tell them both.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        # A courtesy that a service manager may forbid (systemd: SystemCallFilter=~@resources).
        os.nice(_NICENESS)
    answers = os.fdopen(os.dup(1), "wb")
    # Whatever else a library may print must not come between the frames.
    os.dup2(2, 1)
    try:
        serve(os.fdopen(0, "rb", closefd=False), answers)
    except BrokenPipeError:
        # The reader is gone, and with it everybody who could want the answer.
        os._exit(0)
    except Exception as error:  # noqa: BLE001 - the process's boundary: a text could show keys
        sys.stderr.write(f"tallyd: a process that scans for Monero ends: {type(error).__name__}\n")
        sys.stderr.flush()
        os._exit(_FAULT)


if __name__ == "__main__":
    main()
