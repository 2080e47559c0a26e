"""Epee's portable storage, the format of monerod's binary endpoints (docs/PORTABLE_STORAGE.md).

A storage is a section: names and values. Numbers are little-endian; sizes are varints whose two
lowest bits tell their width. Nothing that arrives is believed: a size must fit into what is left of
the input, and depth, values, strings and sections are bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

HEAD = bytes.fromhex("011101010101020101")
"""Signatures 0x01011101 and 0x01020101, version 1."""
MAX_DEPTH = 16
MAX_VALUES = 1_000_000
"""Numbers and strings, those in arrays included."""
MAX_SECTIONS = 200_000
"""The largest honest answer is 20 000 transactions, each with a section or two."""

_NUMBERS = {1: "q", 2: "i", 3: "h", 4: "b", 5: "Q", 6: "I", 7: "H", 8: "B", 9: "d"}
_UINT64, _STRING, _BOOL, _SECTION, _ARRAY = 5, 10, 11, 12, 13
_ARRAY_FLAG = 0x80
_VARINTS = ("<B", "<H", "<I", "<Q")

Section = dict[str, Any]
"""Values are int, float, bool, bytes, Section, and lists of one of these."""


class EpeeError(ValueError):
    """This is no portable storage, or a larger one than we read."""


def pack(section: Mapping[str, Any]) -> bytes:
    """A storage: bool, int (unsigned, 64 bits), bytes, mapping, and sequences of one of these.

    Raises EpeeError for what the format can not hold.
    """
    out = bytearray(HEAD)
    _pack_section(out, section, MAX_DEPTH)
    return bytes(out)


def unpack(data: bytes) -> Section:
    """The section in a storage. Raises EpeeError, and nothing else, whatever `data` is."""
    if data[: len(HEAD)] != HEAD:
        raise EpeeError("it does not begin as a portable storage does")
    reader = _Reader(data)
    section = reader.section(MAX_DEPTH)
    if reader.at != len(data):
        raise EpeeError(f"{len(data) - reader.at} bytes follow its end")
    return section


def _pack_section(out: bytearray, section: Mapping[str, Any], depth: int) -> None:
    if not depth:
        raise EpeeError(f"it is nested deeper than {MAX_DEPTH} times")
    _pack_size(out, len(section))
    for name, value in section.items():
        raw = name.encode("latin-1", "replace")
        if not 0 < len(raw) < 256:
            raise EpeeError("a name has 1 to 255 bytes")
        out.append(len(raw))
        out += raw
        if isinstance(value, Sequence) and not isinstance(value, bytes):
            kind = _kind(value[0]) if value else _STRING
            if any(_kind(each) != kind for each in value):
                raise EpeeError(f"{name} holds values of several kinds")
            out.append(kind | _ARRAY_FLAG)
            _pack_size(out, len(value))
            for each in value:
                _pack_value(out, kind, each, depth)
        else:
            kind = _kind(value)
            out.append(kind)
            _pack_value(out, kind, value, depth)


def _kind(value: object) -> int:
    match value:
        case bool():
            return _BOOL
        case int():
            return _UINT64
        case bytes():
            return _STRING
        case Mapping():
            return _SECTION
        case _:
            raise EpeeError(f"a {type(value).__name__} can not be stored")


def _pack_value(out: bytearray, kind: int, value: Any, depth: int) -> None:
    if kind == _SECTION:
        _pack_section(out, value, depth - 1)
    elif kind == _STRING:
        _pack_size(out, len(value))
        out += value
    elif kind == _BOOL:
        out.append(value)
    elif 0 <= value < 1 << 64:
        out += struct.pack("<Q", value)
    else:
        raise EpeeError(f"{value} is no unsigned number of 64 bits")


def _pack_size(out: bytearray, size: int) -> None:
    mark = next(mark for mark, bits in enumerate((6, 14, 30, 62)) if size < 1 << bits)
    out += struct.pack(_VARINTS[mark], size << 2 | mark)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = len(HEAD)
        self._values_left = MAX_VALUES
        self._sections_left = MAX_SECTIONS

    def section(self, depth: int) -> Section:
        self._sections_left -= 1
        if not depth or self._sections_left < 0:
            raise EpeeError("it is nested too deeply, or has too many sections")
        fields: Section = {}
        # The shortest field has a name of one byte, a type and a value of one byte.
        for _ in range(self._size(least=4)):
            name = self._take(self._byte()).decode("latin-1")
            if not name or name in fields:
                raise EpeeError("a name is empty or there twice")
            fields[name] = self._entry(depth)
        return fields

    def _entry(self, depth: int) -> Any:
        kind = self._byte()
        if kind == _ARRAY:
            kind = self._byte()
            if not kind & _ARRAY_FLAG:
                raise EpeeError("an array is none")
        if kind & _ARRAY_FLAG:
            return self._array(kind & ~_ARRAY_FLAG, depth)
        return self._value(kind, depth)

    def _value(self, kind: int, depth: int) -> Any:
        if kind == _SECTION:
            return self.section(depth - 1)
        self._spend(1)
        if kind == _STRING:
            return self._take(self._size(least=1))
        if kind == _BOOL:
            return self._bool()
        if kind in _NUMBERS:
            return self._numbers(kind, 1)[0]
        raise EpeeError(f"there is no type {kind}")

    def _array(self, kind: int, depth: int) -> list[Any]:
        if not depth:
            raise EpeeError("it is nested too deeply")
        if kind in _NUMBERS:
            count = self._size(least=struct.calcsize("<" + _NUMBERS[kind]))
            self._spend(count)
            return list(self._numbers(kind, count))
        count = self._size(least=1)
        if kind == _STRING:
            self._spend(count)
            return [self._take(self._size(least=1)) for _ in range(count)]
        if kind == _BOOL:
            self._spend(count)
            return [self._bool() for _ in range(count)]
        if kind == _SECTION:
            return [self.section(depth - 1) for _ in range(count)]
        if kind == _ARRAY:
            self._spend(count)
            return [self._inner_array(depth - 1) for _ in range(count)]
        raise EpeeError(f"there is no type {kind}")

    def _inner_array(self, depth: int) -> list[Any]:
        kind = self._byte()
        if not kind & _ARRAY_FLAG:
            raise EpeeError("an array is none")
        return self._array(kind & ~_ARRAY_FLAG, depth)

    def _numbers(self, kind: int, count: int) -> tuple[Any, ...]:
        form = f"<{count}{_NUMBERS[kind]}"
        return struct.unpack(form, self._take(struct.calcsize(form)))

    def _bool(self) -> bool:
        byte = self._byte()
        if byte > 1:
            raise EpeeError(f"{byte} is neither true nor false")
        return byte == 1

    def _size(self, *, least: int) -> int:
        """A count of things that have `least` bytes each at least."""
        at = self.at
        width = 1 << (self._byte() & 3)
        self.at = at + width
        size = int.from_bytes(self._data[at : self.at], "little") >> 2
        # A varint that is cut off is noticed too: nothing is left after it.
        if size * least > len(self._data) - self.at or self.at > len(self._data):
            raise EpeeError("a size is larger than what follows it")
        return size

    def _byte(self) -> int:
        at = self.at
        if at >= len(self._data):
            raise EpeeError("it ends too early")
        self.at = at + 1
        return self._data[at]

    def _take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self._data):
            raise EpeeError("it ends too early")
        taken = self._data[self.at : end]
        self.at = end
        return taken

    def _spend(self, count: int) -> None:
        self._values_left -= count
        if self._values_left < 0:
            raise EpeeError(f"it has more than {MAX_VALUES} values")
