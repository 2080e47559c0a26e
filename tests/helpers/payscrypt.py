"""A merchant with a wallet, and both wires of Payscrypt to a house that runs in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

import grpc
import orjson
import trio

from actors.access import mint
from actors.access_book import Act
from actors.gate import Gate, GateRules, Knock
from actors.wallets import Wallet, WalletAsset
from api.grpc.gatekeeper import gatekeeper
from api.grpc.payscrypt import PgApi
from api.payscrypt_calls import PayscryptCalls
from api.rest.app import create_app
from tests.helpers.google_messages import google_class
from tests.helpers.grpc_serving import serving
from tests.helpers.house import BTC_KEY, House

SERVICE = "payscrypt.pg.PgApi"
CREATE, PUBLIC = "/apis/pg/create_order", "/apis/pg/get_public_order"
LATER = "/payment/v1/invoice"
PUBLIC_URL = "https://pay.example"
HTTP_OF = {0: 200, 3: 400, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 13: 500, 14: 503, 16: 401}


@dataclass(frozen=True)
class Told:
    """How a call ended, on either wire."""

    code: int
    message: str
    order: Any = None
    """The order as REST's JSON has it."""
    headers: Mapping[str, str] = field(default_factory=dict, compare=False)
    status: int = field(default=0, compare=False)


class Anywhere(Gate):
    """Takes requests for what the test says they are."""

    address = "127.0.0.1:1"
    direct = True

    def _as(self, knock: Knock) -> Knock:
        return replace(knock, address=self.address, direct=self.direct)

    def admit(self, knock: Knock) -> Any:
        return super().admit(self._as(knock))

    def admit_stranger(self, knock: Knock) -> Any:
        return super().admit_stranger(self._as(knock))

    async def admit_by_key(self, knock: Knock) -> Any:
        return await super().admit_by_key(self._as(knock))


class Shop:
    """One merchant's dealings."""

    def __init__(self, house: House, **rules: Any) -> None:
        self.house = house
        self.gate = Anywhere(
            house.store,
            GateRules(**{"anonymous": True, **rules}),
            clock=house.clock,
            log=house.log,
        )
        house.gate = self.gate
        self.app = create_app(replace(house.edge(), public_url=PUBLIC_URL))
        self.client = self.app.test_client()
        self.token = ""
        self.wallet_id = 0
        self._numbers = 0
        self._channel: grpc.Channel | None = None

    async def open(self) -> Shop:
        self.user_id = await self.house.user(btc=BTC_KEY)
        self.wallet_id = (await self.wallet("btc")).id
        self.token = await self.key("write")
        return self

    async def wallet(self, *keys: str, user_id: Any = None, **more: Any) -> Wallet:
        made = await self.house.wallets.add(
            user_id or self.user_id,
            name="shop",
            keys=[(chain, BTC_KEY) for chain in keys],
            assets=more.get("assets", (WalletAsset("BTC"), WalletAsset("LTC"))),
        )
        assert isinstance(made, Wallet), made
        return made

    async def key(
        self, *scopes: str, user_id: Any = None, bound: bool = True, load: bool = True
    ) -> str:
        """Bound to the merchant, unless to another user or to nobody."""
        key, token = mint(
            name="n",
            scopes=scopes,
            user_id=(user_id or self.user_id) if bound else None,
            now_ms=self.house.clock.now_ms(),
        )
        act = Act(at_ms=0, actor="cli", address="local", act="key.added", target=key.prefix)
        await self.house.store.add_api_key(key, act)
        if load:
            await self.gate.load()
        return token

    async def revoke(self, token: str) -> None:
        """As another process would: the gate is told nothing."""
        act = Act(at_ms=1, actor="cli", address="local", act="key.revoked", target=token[3:11])
        assert await self.house.store.revoke_api_key(token[3:11], act)

    def wanted(self, **change: Any) -> dict[str, Any]:
        """An order that nobody has asked for yet, but for `change`; None leaves a field out."""
        self._numbers += 1
        fields = {
            "merchant_order_id": f"A-{self._numbers}",
            "asset_name": "BTC",
            "target_value": "1500000",
            "pg_wallet_id": self.wallet_id,
            **change,
        }
        return {name: value for name, value in fields.items() if value is not None}

    # --- REST -------------------------------------------------------------------------------------

    async def rest(
        self, path: str, document: Any = None, *, method: str = "POST", **headers: str | None
    ) -> Told:
        sent = {name.replace("_", "-"): text for name, text in headers.items() if text is not None}
        if isinstance(document, bytes):
            response = await self.client.open(path, method=method, headers=sent, data=document)
        elif document is None:
            response = await self.client.open(path, method=method, headers=sent)
        else:
            response = await self.client.open(path, method=method, headers=sent, json=document)
        return told_by(response.status_code, response.headers, await response.get_data())

    async def create(self, document: Any, *, path: str = CREATE, apikey: str | None = "") -> Told:
        return await self.rest(path, document, apikey=self.token if apikey == "" else apikey)

    # --- gRPC -------------------------------------------------------------------------------------

    async def grpc(self, rpc: str, document: Mapping[str, Any], *metadata: tuple[str, str]) -> Told:
        """Google's client; the document has the fields as JSON has them."""
        assert self._channel is not None, "open it with `grpc_too`"
        name = rpc[:1].upper() + rpc[1:]
        call = self._channel.unary_unary(
            f"/{SERVICE}/{rpc}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=google_class(f"payscrypt.pg.{name}Response").FromString,
        )
        request = google_class(f"payscrypt.pg.{name}Request")(**document)

        def run() -> Told:
            try:
                reply = call(request, timeout=30, metadata=metadata)
            except grpc.RpcError as error:
                trailing = dict(error.trailing_metadata() or ())
                return Told(error.code().value[0], error.details(), None, trailing)
            return Told(0, "OK", as_json(reply)["order"])

        return await trio.to_thread.run_sync(run)

    async def create_grpc(self, document: Any, *, apikey: str | None = "") -> Told:
        token = self.token if apikey == "" else apikey
        metadata = [] if token is None else [("apikey", token)]
        return await self.grpc("createOrder", document, *metadata)

    @asynccontextmanager
    async def grpc_too(self) -> AsyncIterator[Shop]:
        calls = PayscryptCalls(self.house.orders, self.house.invoicing.catalogue)
        service = PgApi(calls, public_url=lambda: PUBLIC_URL)
        async with serving(service, interceptors=[gatekeeper(self.gate)], reflection=True) as run:
            self.port = run.port
            with grpc.insecure_channel(f"127.0.0.1:{run.port}") as self._channel:
                yield self


def as_json(message: Any) -> Any:
    from google.protobuf import json_format  # noqa: PLC0415 - slow, and for this alone

    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def told_by(status: int, headers: Mapping[str, str], data: bytes) -> Told:
    """REST's answer, after a look at what is the same in all of them."""
    code, message = int(headers["grpc-code"]), unquote(headers["grpc-message"])
    document = orjson.loads(data) if data else None
    if code == 0:
        assert message == "OK"
        found = document and document.get("order", document.get("invoice"))
        return Told(code, message, found, headers, status)
    assert headers["Content-Type"] == "application/json"
    assert document == {"code": code, "message": message, "details": []}
    return Told(code, message, None, headers, status)


@asynccontextmanager
async def open_shop(house: House, **rules: Any) -> AsyncIterator[Shop]:
    """A shop with both wires."""
    async with (await Shop(house, **rules).open()).grpc_too() as shop:
        yield shop
