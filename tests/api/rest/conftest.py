"""The house and its REST application, for every test here."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from api.rest.app import RestApp, create_app
from tests.helpers.house import House, open_house


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house() as running:
        yield running


@pytest.fixture
def app(house: House) -> RestApp:
    return create_app(house.edge())
