"""Portable storage: what goes in comes out, and nothing hostile gets further than an EpeeError."""

import struct
import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.drivers import monero_epee
from daemon.drivers.monero_epee import HEAD, MAX_DEPTH, EpeeError, pack, unpack
from tests.helpers import epee

names = st.text(st.characters(min_codepoint=1, max_codepoint=255), min_size=1, max_size=255)
numbers = st.integers(0, 2**64 - 1)
scalars = numbers | st.booleans() | st.binary(max_size=20_000)


def _containers(values: st.SearchStrategy) -> st.SearchStrategy:
    section = st.dictionaries(names, values, max_size=6)
    return section | st.lists(section, max_size=4)


arrays = (
    st.lists(numbers, max_size=70)
    | st.lists(st.booleans(), max_size=5)
    | st.lists(st.binary(max_size=50), max_size=70)
)
values = st.recursive(scalars | arrays, _containers, max_leaves=20)
sections = st.dictionaries(names, values, max_size=6)


@given(sections)
def test_round_trips(section: dict) -> None:
    assert unpack(pack(section)) == section


flat = st.dictionaries(
    st.text("abc_", min_size=1, max_size=9),
    numbers | st.booleans() | st.binary(max_size=300) | st.lists(numbers, min_size=1, max_size=9),
    max_size=5,
)


@given(flat)
def test_agrees_with_a_codec_that_shares_no_code(section: dict) -> None:
    assert epee.unpack(pack(section)) == section
    assert unpack(epee.pack(section)) == section


def test_a_storage_byte_by_byte() -> None:
    assert pack({"ab": 258, "c": b"xy", "d": True}) == bytes.fromhex(
        "011101010101020101"  # signatures and version
        "0c"  # three fields
        "026162050201000000000000"
        "01630a087879"
        "01640b01"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "form", "value"),
    [
        (1, "<q", -5),
        (2, "<i", -5),
        (3, "<h", -5),
        (4, "<b", -5),
        (6, "<I", 7),
        (7, "<H", 7),
        (8, "<B", 7),
        (9, "<d", 0.5),
    ],
)
def test_every_number_is_read_alone_and_in_arrays(kind: int, form: str, value: float) -> None:
    raw = struct.pack(form, value)
    assert unpack(HEAD + b"\x04\x01a" + bytes([kind]) + raw) == {"a": value}
    two = HEAD + b"\x04\x01a" + bytes([kind | 0x80, 2 << 2]) + raw + raw
    assert unpack(two) == {"a": [value, value]}


def test_arrays_of_arrays_are_read() -> None:
    inner = bytes([0x88, 2 << 2, 1, 2])
    assert unpack(HEAD + b"\x04\x01a" + b"\x0d" + inner) == {"a": [1, 2]}
    assert unpack(HEAD + b"\x04\x01a" + bytes([0x8D, 2 << 2]) + inner + inner) == {
        "a": [[1, 2], [1, 2]]
    }


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "ends too early"),
        (b"\x04", "larger than what follows"),
        (b"\x04\x01a\x05\x01\x02", "ends too early"),
        (b"\x04\x01a\x0a\xfe\xff\xff\xff", "larger than what follows"),
        (b"\x04\x01a\x0a\x03\xff\xff\xff\xff\xff\xff\xff", "larger than what follows"),
        (b"\x04\x01a\x85\x08" + bytes(15), "larger than what follows"),
        (b"\x04\x01a\x0b\x02", "neither true nor false"),
        (b"\x04\x01a\x0e\x00", "no type 14"),
        (b"\x04\x01a\x8e\x00", "no type 14"),
        (b"\x04\x01a\x0d\x05" + bytes(8), "an array is none"),
        (b"\x04\x00\x0b\x01\x00", "name is empty"),
        (b"\x08\x01a\x0b\x01\x01a\x0b\x01", "there twice"),
        (b"\x04\x01a\x0b\x01\x00", "1 bytes follow"),
    ],
)
def test_malformed(body: bytes, text: str) -> None:
    with pytest.raises(EpeeError, match=text):
        unpack(HEAD + body)


def test_other_formats_are_refused() -> None:
    for data in (b"", b"{}", HEAD[:-1], HEAD[:-1] + b"\x02\x00", b"<html>"):
        with pytest.raises(EpeeError, match="does not begin"):
            unpack(data)


@given(st.binary(max_size=400))
def test_noise_is_refused_or_read_and_nothing_else(noise: bytes) -> None:
    for data in (noise, HEAD + noise):
        with suppress(EpeeError):
            unpack(data)


@given(sections, st.data())
def test_a_damaged_storage_is_refused_or_read_and_nothing_else(
    section: dict, data: st.DataObject
) -> None:
    good = pack(section)
    at = data.draw(st.integers(len(HEAD), len(good) - 1))
    damaged = bytearray(good)
    damaged[at] = data.draw(st.integers(0, 255))
    for each in (bytes(damaged), good[:at]):
        with suppress(EpeeError):
            unpack(each)


def test_depth_is_bounded() -> None:
    nested: dict = {}
    for _ in range(MAX_DEPTH - 1):
        nested = {"a": nested}
    assert unpack(pack(nested)) == nested
    with pytest.raises(EpeeError, match="deeper"):
        pack({"a": nested})
    for opening in (b"\x04\x01a\x0c", b"\x04\x01a\x8c\x04"):
        with pytest.raises(EpeeError, match="nested too deeply"):
            unpack(HEAD + opening * 100_000 + b"\x00")
    with pytest.raises(EpeeError, match="nested too deeply"):
        unpack(HEAD + b"\x04\x01a\x8d\x04" + b"\x8d\x04" * 100_000)


def _array(kind: int, count: int, item: bytes) -> bytes:
    return HEAD + b"\x04\x01a" + bytes([kind | 0x80]) + struct.pack("<I", count << 2 | 2) + item


@pytest.mark.parametrize(
    ("kind", "item"), [(12, b"\x00"), (8, b"\x07"), (10, b"\x00"), (11, b"\x01"), (13, b"\x88\x00")]
)
def test_many_small_things_cost_bounded_memory(
    kind: int, item: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monero_epee, "MAX_VALUES", 10_000)
    monkeypatch.setattr(monero_epee, "MAX_SECTIONS", 10_000)
    count = 100_000
    data = _array(kind, count, item * count)
    tracemalloc.start()
    with pytest.raises(EpeeError, match=r"more than|too many"):
        unpack(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000


def test_a_size_is_not_believed() -> None:
    tracemalloc.start()
    for kind in (5, 8, 10, 11, 12, 13):
        with pytest.raises(EpeeError, match="larger than what follows"):
            unpack(_array(kind, 2**29, b"\x00" * 100))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_what_can_not_be_packed() -> None:
    for value in (-1, 2**64, None, 1.5, [1, b"x"]):
        with pytest.raises(EpeeError):
            pack({"a": value})
    for name in ("", "a" * 256):
        with pytest.raises(EpeeError, match="1 to 255 bytes"):
            pack({name: 1})
