"""A house with both of its chains, and a merchant in it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.helpers.faulty_store import FaultyStore
from tests.helpers.house import House, open_house
from tests.helpers.payscrypt import Shop, open_shop


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house(make_store=FaultyStore) as running:
        yield running


@pytest.fixture
async def shop(house: House) -> AsyncIterator[Shop]:
    async with open_shop(house) as opened:
        yield opened
