"""How SQLite's rows are divided over statements."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.store.bulk import parts


@given(st.integers(0, 5000), st.integers(1, 17))
def test_every_row_is_in_one_part_in_order(count: int, width: int) -> None:
    rows = list(range(count * width))
    divided = list(parts(rows, width))
    assert [value for _, part in divided for value in part if value is not None] == rows
    for length, part in divided:
        assert len(part) == length * width <= 32766
    for _, part in divided[:-1]:
        assert None not in part
    assert len(divided) <= 2 + count // 1024


@pytest.mark.parametrize(
    ("count", "lengths"),
    [
        (0, []),
        (1, [1]),
        (5, [4, 1]),
        (470, [384, 96]),
        (625, [512, 128]),
        (2500, [1024, 1024, 512]),
    ],
)
def test_few_lengths_are_used(count: int, lengths: list[int]) -> None:
    assert [length for length, _ in parts([0] * count, 1)] == lengths
