"""Monero's portable storage, as its binary endpoints speak it; for tests, no code of the daemon.

Source: monero's ``contrib/epee/include/storages/portable_storage_base.h``. What is written here is
flat; what is read may be any depth.
"""

import struct
from typing import Any

_HEADER = bytes.fromhex("0111010101010201") + b"\x01"
_NUMBERS = {1: "<q", 2: "<i", 3: "<h", 4: "<b", 5: "<Q", 6: "<I", 7: "<H", 8: "<B", 9: "<d"}
_TEXT, _BOOL, _OBJECT, _ARRAY_FLAG = 10, 11, 12, 0x80


def pack(fields: dict[str, int | bool | bytes | list[int]]) -> bytes:
    """Write integers (as uint64), booleans, bytes and lists of integers."""
    return _HEADER + _size(len(fields)) + b"".join(_entry(k, v) for k, v in fields.items())


def unpack(data: bytes) -> dict[str, Any]:
    """Read a storage; texts come as bytes."""
    assert data.startswith(_HEADER), data[:80]
    reader = _Reader(data, len(_HEADER))
    found: dict[str, Any] = reader.object()
    assert reader.at == len(data)
    return found


def _size(number: int) -> bytes:
    if number < 64:
        return bytes([number << 2])
    return struct.pack("<I", number << 2 | 2)


def _entry(name: str, value: int | bool | bytes | list[int]) -> bytes:
    head = bytes([len(name)]) + name.encode()
    if isinstance(value, bool):
        return head + bytes([_BOOL, value])
    if isinstance(value, int):
        return head + b"\x05" + struct.pack("<Q", value)
    if isinstance(value, bytes):
        return head + bytes([_TEXT]) + _size(len(value)) + value
    items = b"".join(struct.pack("<Q", item) for item in value)
    return head + bytes([5 | _ARRAY_FLAG]) + _size(len(value)) + items


class _Reader:
    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self.at = at

    def object(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(self._varint()):
            name = self._take(self._take(1)[0]).decode()
            kind = self._take(1)[0]
            if kind & _ARRAY_FLAG:
                found[name] = [self._value(kind & ~_ARRAY_FLAG) for _ in range(self._varint())]
            else:
                found[name] = self._value(kind)
        return found

    def _value(self, kind: int) -> Any:
        if kind == _OBJECT:
            return self.object()
        if kind == _TEXT:
            return self._take(self._varint())
        if kind == _BOOL:
            return bool(self._take(1)[0])
        form = _NUMBERS[kind]
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _varint(self) -> int:
        width = 1 << (self._data[self.at] & 3)
        return int.from_bytes(self._take(width), "little") >> 2

    def _take(self, count: int) -> bytes:
        assert self.at + count <= len(self._data)
        self.at += count
        return self._data[self.at - count : self.at]
