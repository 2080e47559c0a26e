"""The house and its REST application, for every test here."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from quart_trio.testing import TrioClient

from api.rest.app import RestApp, create_app
from tests.helpers.faulty_store import FaultyStore
from tests.helpers.house import House, open_house


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house(make_store=FaultyStore) as running:
        yield running


@pytest.fixture
async def app(house: House) -> RestApp:
    return create_app(house.edge())


@pytest.fixture
async def client(app: RestApp) -> TrioClient:
    return app.test_client()
