"""The whole OpenAPI document against the running API: requests drawn from it, answers held to it.

The seed is printed, and always the same, so that a run can be repeated; SCHEMATHESIS_SEED draws
other requests, SCHEMATHESIS_EXAMPLES more of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import orjson
import pytest
import requests
import schemathesis
import trio
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.specs.openapi import checks

from actors.access import mint
from actors.access_book import Act
from actors.wallets import Wallet
from api.rest.app import create_app
from api.rest.edge import HttpLimits
from api.rest.serving import serve
from tests.helpers.house import BTC_KEY, House, open_house

EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "6"))
"""Of each operation, valid and invalid ones each."""
SEED = int(os.environ.get("SCHEMATHESIS_SEED", "20181201"))
TIMEOUT_S = 30.0
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
CONFORMS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


async def known_things(house: House) -> dict[str, str]:
    """Ids of what exists, by their names in paths."""
    user_id = await house.user()
    invoice = await house.invoice(user_id)
    await house.paid(invoice)
    wallet = await house.wallets.add(user_id, name="w", keys=[("btc", BTC_KEY)])
    assert isinstance(wallet, Wallet)
    return {
        "user_id": str(user_id),
        "invoice_id": str(invoice.terms.invoice_id),
        "wallet_id": str(wallet.id),
        "asset": "BTC",
    }


async def key_of(house: House) -> str:
    key, token = mint(name="n", scopes=["admin"], now_ms=house.clock.now_ms())
    act = Act(at_ms=0, actor="cli", address="local", act="key.added", target=key.prefix)
    await house.store.add_api_key(key, act)
    await house.gate.load()
    return token


def operations(document: dict[str, Any]) -> Iterator[Any]:
    """Those that answer at once."""
    schema = schemathesis.openapi.from_dict(document)
    for result in schema.get_all_operations():
        operation = result.ok()
        found = operation.definition.raw["responses"].get("200", {}).get("content", {})
        if "text/event-stream" in found and len(found) == 1:
            continue
        yield operation


def tried(
    operation: Any, mode: Any, base_url: str, session: requests.Session, known: dict[str, str]
) -> Callable[[], None]:
    """A property of one operation; raises what schemathesis finds."""
    cases = operation.as_strategy(generation_mode=mode)

    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, meant=st.booleans())
    def ask(case: Any, meant: bool) -> None:
        for name in case.path_parameters if meant else ():
            case.path_parameters[name] = known.get(name, case.path_parameters[name])
        response = case.call(base_url=base_url, session=session, timeout=TIMEOUT_S)
        case.validate_response(response, checks=CONFORMS)

    return ask


def explore(base_url: str, document: dict[str, Any], known: dict[str, str], token: str) -> int:
    """Ask everything; returns how many operations there were."""
    session = requests.Session()
    session.trust_env = False
    session.headers.update({"apikey": token, "Authorization": f"Bearer {token}"})
    failures, count = [], 0
    for operation in operations(document):
        count += 1
        for mode in MODES:
            try:
                tried(operation, mode, base_url, session, known)()
            except Unsatisfiable:
                # What has neither parameters nor a body has nothing that could be invalid.
                assert mode is schemathesis.GenerationMode.NEGATIVE
            except BaseExceptionGroup as found:
                failures.append(f"{operation.label} {mode.value}: {found!r} {found.exceptions}")
            except (AssertionError, requests.RequestException) as error:
                failures.append(f"{operation.label} {mode.value}: {error!r}")
    session.close()
    assert not failures, "\n\n".join(failures)
    return count


async def test_every_operation_does_what_the_document_says(nursery):
    print(f"SCHEMATHESIS_SEED={SEED}")
    async with open_house() as house:
        known, token = await known_things(house), await key_of(house)
        app = create_app(house.edge(limits=HttpLimits(wait_s=0)))
        response = await app.test_client().get("/openapi.json")
        document = orjson.loads(await response.get_data())
        shutdown = trio.Event()
        bound = await nursery.start(partial(serve, app, "127.0.0.1", 0, shutdown=shutdown))
        base_url = "http://{}:{}".format(*bound[0])
        count = await trio.to_thread.run_sync(explore, base_url, document, known, token)
        shutdown.set()
        assert count == len(list(operations(document))) >= 40
        assert not house.log.of("a request crashed")


@pytest.mark.parametrize("status", [500, 418])
def test_an_answer_that_is_not_documented_is_found(status):
    document = {
        "openapi": "3.1.0",
        "info": {"title": "t", "version": "1"},
        "paths": {"/x": {"get": {"responses": {"200": {"description": "fine"}}}}},
    }
    (operation,) = operations(document)
    response = requests.Response()
    response.status_code = status
    response.request = requests.Request("GET", "http://x/x").prepare()
    with pytest.raises((BaseExceptionGroup, AssertionError)):
        operation.Case().validate_response(response, checks=CONFORMS)
