from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.core.chain_view import BrokenChainError, ChainView, consecutive
from tests.helpers.invoices import block, txid


def chain(first: int, last: int) -> ChainView:
    return ChainView(tuple(block(height) for height in range(first, last + 1)))


def test_a_view_is_never_empty():
    with pytest.raises(AssertionError):
        ChainView(())


def test_the_tip_and_the_floor():
    view = chain(5, 9)
    assert view.tip == block(9)
    assert view.floor == block(5)
    assert [at.height for at in view.newest_first()] == [9, 8, 7, 6, 5]


def test_a_block_follows_by_height_and_by_parent():
    view = chain(5, 9)
    assert view.connect(block(10), keep=100).tip == block(10)
    for wrong in (
        block(9),
        block(11),
        replace(block(10), parent=txid("stranger")),
        replace(block(10), height=11),
    ):
        with pytest.raises(BrokenChainError, match="does not follow"):
            view.connect(wrong, keep=100)


def test_the_window_keeps_the_newest():
    view = chain(5, 9).connect(block(10), keep=3)
    assert [at.height for at in view.blocks] == [8, 9, 10]
    assert chain(5, 9).connect(block(10), keep=1).blocks == (block(10),)


def test_a_window_of_nothing_is_a_bug():
    with pytest.raises(AssertionError):
        chain(5, 9).connect(block(10), keep=0)


def test_a_fork_point_outside_of_the_window_cannot_be_taken():
    with pytest.raises(ValueError, match="not in tuple"):
        chain(5, 9).disconnect_to(block(4))


def test_rewinding_keeps_the_floor():
    view = chain(5, 9)
    assert view.rewind_below(8) == chain(5, 7)
    assert view.rewind_below(100) == view
    assert view.rewind_below(5).blocks == (block(5),)
    assert view.rewind_below(0).blocks == (block(5),)


def test_consecutive_means_by_height_and_by_parent():
    view = chain(5, 9)
    assert consecutive(view.blocks)
    assert consecutive(())
    assert not consecutive((block(5), block(7)))
    assert not consecutive((block(5), replace(block(6), parent=b"?")))


@given(start=st.integers(0, 1000), length=st.integers(1, 20), branch=st.integers(1, 20))
def test_connecting_a_branch_and_leaving_it_restores_the_view(start, length, branch):
    before = chain(start, start + length - 1)
    view = before
    for _ in range(branch):
        tip = view.tip
        grown = replace(block(tip.height + 1, branch="b"), parent=tip.hash)
        view = view.connect(grown, keep=1000)
    assert consecutive(view.blocks)
    assert view.disconnect_to(before.tip) == before


@given(length=st.integers(1, 12), grow=st.integers(1, 30), keep=st.integers(1, 12))
def test_the_window_is_dense_and_bounded(length, grow, keep):
    view = chain(0, length - 1)
    for height in range(length, length + grow):
        view = view.connect(block(height), keep=keep)
        assert len(view.blocks) <= keep
        assert consecutive(view.blocks)
    assert view.tip == block(length + grow - 1)
