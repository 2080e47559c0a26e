"""pytest plugin: what takes long comes first, and what is collected is not walked as garbage.

The processes of `make test` take one file after the other: a long one at the end would run alone.
The thousands of collected tests live to the end, and each full garbage collection would visit all.
"""

import gc
from collections.abc import Generator

import pytest

LONG = ("tests/systemd/", "tests/e2e/test_monero", "tests/e2e/", "tests/benchmarks/")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files keep their order otherwise, and tests the order in their file."""
    items.sort(key=lambda item: _place(item.nodeid))


def _place(nodeid: str) -> int:
    return next((at for at, start in enumerate(LONG) if nodeid.startswith(start)), len(LONG))
