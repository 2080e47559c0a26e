"""gRPC from outside: frames, header blocks, metadata, and the message of every call."""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from random import Random
from typing import Any

import trio
from google.protobuf.message import Message
from grpclib.const import Status
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from hpack import Encoder

from api.grpc.gatekeeper import gatekeeper
from api.grpc.goipay import InvoiceService, UserService
from api.grpc.health import SERVING
from api.grpc.payscrypt import PgApi
from api.grpc.tally import InvoiceService as TallyInvoiceService
from api.payscrypt_calls import PayscryptCalls
from tests.fuzz.engine import Check, Target, until
from tests.fuzz.mutation import as_json, mutated, mutated_text
from tests.helpers.google_messages import _POOL, google_class
from tests.helpers.grpc_raw import RawClient, prefixed
from tests.helpers.grpc_serving import Running, serving
from tests.helpers.house import BTC_KEY, House, open_house

USER, INVOICE = ("USER".ljust(36, "@"), "INVOICE".ljust(36, "@"))
"""Stand for ids, which are as long and random."""
FORBIDDEN = {Status.UNKNOWN.value, Status.DATA_LOSS.value}
"""GoiPay answers INTERNAL to what it refuses; faults of ours are told by the server's figures."""
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
SERVICES = (
    "user.v1.UserService",
    "invoice.v1.InvoiceService",
    "tally.v1.InvoiceService",
    "payscrypt.pg.PgApi",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)
CALLS = {
    f"/{service}/{method.name}": method.input_type.full_name
    for service in SERVICES
    for method in _POOL.FindServiceByName(service).methods
}
"""Path → the message that is sent."""


@asynccontextmanager
async def everything() -> AsyncIterator[tuple[House, Running, dict[str, str]]]:
    """All that the daemon serves over gRPC, and real ids for those that stand for them."""
    async with open_house() as house:
        user_id = await house.user(btc=BTC_KEY)
        invoice = await house.invoice(user_id)
        await house.paid(invoice)
        calls = PayscryptCalls(house.orders, house.invoicing.catalogue)
        services = (
            UserService(house.invoicing, audit=house.audit, reveal=None),
            InvoiceService(house.invoicing, hub=house.hub),
            TallyInvoiceService(
                house.invoicing, house.repeats, outbox=house.outbox, clock=house.clock
            ),
            PgApi(calls, public_url=lambda: "https://pay.example"),
        )
        gates = [gatekeeper(house.gate)]
        async with serving(*services, interceptors=gates, reflection=True) as running:
            running.server.health.set(SERVING)
            assert set(CALLS) == set(running.server._serving.methods)
            ids = {USER: str(user_id), INVOICE: str(invoice.terms.invoice_id)}
            yield house, running, ids


def sound(running: Running) -> None:
    """Nothing happened that the server had not reckoned with."""
    figures = running.server.statistics()
    assert figures["handler_errors"] == 0, running.log.entries[-1]
    assert "a gRPC connection failed" not in running.log.events, running.log.entries[-1]


# --- frames ---------------------------------------------------------------------------------------


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream_id)
    return head + payload


@cache
def blocks() -> list[bytes]:
    """Header blocks, from fields that come again: with the table of HPACK in use."""
    encoder = Encoder()
    return [
        encoder.encode(
            [(":method", "POST"), (":scheme", "http"), (":path", path), ("te", "trailers"),
             ("content-type", "application/grpc"), ("x-meta", "value"), ("x-some-bin", "AAEC")]
        )
        for path in CALLS
    ]  # fmt: skip


@cache
def bodies() -> dict[str, list[bytes]]:
    """Messages of each call: empty, and with every field set, twice in other ways."""
    return {
        path: [b"", *(filled(google_class(name)(), way).SerializeToString() for way in (0, 1))]
        for path, name in CALLS.items()
    }


def filled(message: Message, way: int, depth: int = 0) -> Message:
    texts = (USER, INVOICE, "BTC", BTC_KEY, "1500000") if way else ("BTC", USER, "1", INVOICE, "x")
    for number, field in enumerate(message.DESCRIPTOR.fields):
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        repeated = field.is_repeated
        if field.message_type is not None:
            if depth < 4:
                place = getattr(message, field.name)
                filled(place.add() if repeated else place, way, depth + 1)
                if not repeated:
                    place.SetInParent()
            continue
        text = USER if "user" in field.name else texts[number % len(texts)]
        text = INVOICE if "invoice_id" in field.name else text
        value: Any = {
            field.TYPE_STRING: text, field.TYPE_BYTES: b"\0x", field.TYPE_BOOL: True,
            field.TYPE_DOUBLE: 0.015, field.TYPE_FLOAT: 1.5, field.TYPE_ENUM: way,
        }.get(field.type, 1 + way * 59)  # fmt: skip
        if repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
    return message


def drawn_frames(dice: Random) -> bytes:
    """A good client's bytes, changed here and there; or frames in any order."""
    data = GREETING if dice.random() < 0.9 else b""
    paths = list(CALLS)
    if dice.random() < 0.5:
        stream_id = 1
        for number in range(dice.randint(1, 4)):
            body = prefixed(dice.choice(bodies()[paths[number]]))
            data += frame(1, 4, stream_id, blocks()[number]) + frame(0, 1, stream_id, body)
            stream_id += 2
        return mutated(dice, data + frame(6, 0, 0, b"12345678"))
    for _ in range(dice.randint(1, 14)):
        whole = prefixed(dice.choice(bodies()[dice.choice(paths)]))
        number = dice.choice((0, 1, 65_535, 2**31 - 1))
        setting = struct.pack(">HI", dice.randint(1, 6), number)
        noise = dice.randbytes(dice.randrange(12))
        payload = dice.choice((dice.choice(blocks()), whole, bytes(4), bytes(8), setting, noise))
        if dice.random() < 0.5:
            payload = mutated(dice, payload)[:16_000]
        kind = dice.choice((0, 0, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 9, 10, 12))
        flags = dice.choice((0, 1, 4, 4, 5, 5, 8, 0x20, 0x2C))
        data += frame(kind, flags, dice.choice((0, 1, 1, 3, 3, 5, 7, 2)), payload)
    return data


@asynccontextmanager
async def frames() -> AsyncIterator[Check]:
    async with everything() as (_, running, ids):

        async def check(data: bytes) -> None:
            stream = await running.connect()
            try:
                await stream.send_all(with_ids(data, ids))
                await stream.send_eof()
                while await stream.receive_some(65536):
                    pass
            except trio.BrokenResourceError:
                pass  # closed with unread bytes, which is an end as well
            await trio.aclose_forcefully(stream)
            sound(running)

        yield check
        await still_serves(running)


def with_ids(data: bytes, ids: dict[str, str]) -> bytes:
    for name, text in ids.items():
        data = data.replace(name.encode(), text.encode())
    return data


async def still_serves(running: Running) -> None:
    """Others are served, and nothing is left of those who are gone."""
    raw = await RawClient(await running.connect()).start()
    path = "/grpc.health.v1.Health/Check"
    answer = await raw.answer(await raw.open(path, body=prefixed(b"")))
    assert answer.status == 0
    await trio.aclose_forcefully(raw.stream)
    await until(lambda: not running.server.statistics()["streams_open"])


# --- calls ----------------------------------------------------------------------------------------

HEADERS = (
    ("grpc-timeout", "60m"),
    ("grpc-encoding", "gzip"),
    ("grpc-accept-encoding", "identity,gzip"),
    ("authorization", "Bearer tk_00000000_0000000000000000000000"),
    ("apikey", "tk_00000000_0000000000000000000000"),
    ("idempotency-key", "one"),
    ("x-some-bin", "AAEC"),
    ("content-type", "application/grpc+proto"),
    ("te", "trailers"),
    ("x-forwarded-for", "1.2.3.4"),
)


def drawn_call(dice: Random) -> bytes:
    """One call as JSON: path, metadata, and what is sent (latin-1)."""
    path = dice.choice(list(CALLS))
    others = [one for seeds in bodies().values() for one in seeds]
    body = dice.choice(bodies()[path])
    if dice.random() < 0.85:
        body = mutated(dice, body, others=others)
    sent = prefixed(body)
    if dice.random() < 0.2:
        sent = mutated(dice, sent * dice.choice((1, 2)))
    # What streams is ended by its deadline.
    headers = [["grpc-timeout", "50m"]]
    if dice.random() < 0.4:
        for name, value in dice.sample(HEADERS, dice.randint(1, 3)):
            is_kept = dice.random() < 0.3
            headers.append([name, value if is_kept else mutated_text(dice, value)[:9000]])
    if dice.random() < 0.05:
        path = mutated_text(dice, path)[:5000]
    return as_json({"path": path, "headers": headers, "sent": sent.decode("latin-1")})


@asynccontextmanager
async def calls() -> AsyncIterator[Check]:
    async with everything() as (_, running, ids):

        async def check(data: bytes) -> None:
            case = json.loads(data)
            raw = await RawClient(await running.connect()).start()
            try:
                await _call(raw, case, ids)
            except (ProtocolError, UnicodeError):
                pass  # the client's library refuses to send it
            finally:
                await trio.aclose_forcefully(raw.stream)
            sound(running)

        yield check
        await still_serves(running)


async def _call(raw: RawClient, case: Any, ids: dict[str, str]) -> None:
    headers = [(name, value) for name, value in case["headers"]]
    sent = with_ids(case["sent"].encode("latin-1"), ids)
    stream_id = await raw.open(case["path"], headers=headers)
    answer = raw.answers[stream_id]
    try:
        await raw.send(stream_id, sent, end=True)
        while not (answer.ended or answer.reset is not None or raw.closed):
            await raw.step()
    except (trio.BrokenResourceError, ProtocolError):
        # Refused while it was sent: the connection or the stream is over.
        return
    if answer.reset is not None:
        assert answer.reset != ErrorCodes.INTERNAL_ERROR, answer
    elif answer.ended and answer.headers.get(":status") == "200":
        assert answer.status in range(17), answer
        assert answer.status not in FORBIDDEN, answer
        assert "Traceback" not in answer.text
        assert 'File "' not in answer.text
        assert len(answer.text) < 8000


TARGETS = [
    Target("grpc-frames", drawn_frames, frames, cases=250),
    Target("grpc-calls", drawn_call, calls, cases=120),
]
