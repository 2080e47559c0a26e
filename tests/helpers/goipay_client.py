"""GoiPay's API through the official grpcio client, blocking, as a merchant's backend uses it.

The messages are compiled from the .proto files by Google's own protoc when this is first used: no
generated code of the project stands between the daemon and a test.
"""

from __future__ import annotations

import datetime as dt
import functools
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import grpc_tools
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc

SOURCES = Path(__file__).resolve().parents[2] / "proto" / "goipay"
WITHIN_S = 30.0
COIN_BASE = 100_000_000
NEVER = dt.datetime(1, 1, 1, tzinfo=dt.UTC)
RECONNECT = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 300))
"""The daemon is restarted under clients: they should not take a minute to notice."""
RPCS = {
    "RegisterUser": "user.v1.UserService",
    "UpdateCryptoKeys": "user.v1.UserService",
    "GetCryptoKeys": "user.v1.UserService",
    "CreateInvoice": "invoice.v1.InvoiceService",
    "GetInvoices": "invoice.v1.InvoiceService",
    "InvoiceStatusStream": "invoice.v1.InvoiceService",
}


@functools.cache
def _pool() -> descriptor_pool.DescriptorPool:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "all.binpb"
        well_known = Path(grpc_tools.__file__).parent / "_proto"
        sources = [str(path) for path in SOURCES.rglob("*.proto")]
        arguments = [f"-I{SOURCES}", f"-I{well_known}", "--include_imports"]
        status = protoc.main(["protoc", *arguments, f"--descriptor_set_out={out}", *sources])
        assert status == 0, "protoc refuses the .proto files"
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool


@functools.cache
def message(name: str) -> Any:
    """The class of a full name such as ``invoice.v1.Invoice``."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(name))


def enum_name(enum: str, number: int) -> str:
    return str(_pool().FindEnumTypeByName(enum).values_by_number[number].name)


def enum_number(enum: str, name: str) -> int:
    return int(_pool().FindEnumTypeByName(enum).values_by_name[name].number)


def in_coins(amount_base: int) -> float:
    """The double that a client sends for an amount in base units."""
    return float(Decimal(amount_base).scaleb(-8))


def in_base(amount: float, coin: str = "BTC") -> int:
    """Base units of a double; raises AssertionError if it is not what they are written as.

    Of Ethereum's and the like, which have more digits than a double, 8 decimals are looked at.
    """
    exact = Decimal(repr(amount)).scaleb(12 if coin == "XMR" else 8)
    assert exact == int(exact), f"{amount!r} is not a whole number of base units"
    return int(exact)


@dataclass(frozen=True, slots=True)
class Update:
    """An invoice as the wire had it, in comfortable types."""

    id: str
    address: str
    coin: str
    required_base: int
    actual_base: int
    confirmations: int
    status: str
    txid: str
    user_id: str
    created_at: dt.datetime
    expires_at: dt.datetime
    confirmed_at: dt.datetime | None
    received_at: float
    """`time.monotonic` when the client had it."""

    @classmethod
    def of(cls, wire: Any) -> Self:
        confirmed_at = wire.confirmedAt.ToDatetime(tzinfo=dt.UTC)
        coin = enum_name("crypto.v1.CoinType", wire.coin)
        return cls(
            id=wire.id,
            address=wire.cryptoAddress,
            coin=coin,
            required_base=in_base(wire.requiredAmount, coin),
            actual_base=in_base(wire.actualAmount, coin),
            confirmations=wire.confirmationsRequired,
            status=enum_name("invoice.v1.InvoiceStatusType", wire.status),
            txid=wire.txId,
            user_id=wire.userId,
            created_at=wire.createdAt.ToDatetime(tzinfo=dt.UTC),
            expires_at=wire.expiresAt.ToDatetime(tzinfo=dt.UTC),
            confirmed_at=None if confirmed_at == NEVER else confirmed_at,
            received_at=time.monotonic(),
        )


@dataclass(frozen=True, slots=True)
class Created:
    id: str
    address: str


class GoiPay:
    """One channel to the daemon; a context manager. Failures are grpc.RpcError."""

    def __init__(
        self,
        port: int,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        options: Sequence[tuple[str, Any]] = (),
        patient: bool = True,
    ) -> None:
        """A `patient` client waits for a daemon that is not there (yet); others fail at once."""
        target = f"127.0.0.1:{port}"
        options = [*RECONNECT, *options]
        if credentials is None:
            self.channel = grpc.insecure_channel(target, options=options)
        else:
            named = [("grpc.ssl_target_name_override", "localhost"), *options]
            self.channel = grpc.secure_channel(target, credentials, options=named)
        self._patient = patient
        self._streams: list[StatusStream] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        for stream in self._streams:
            stream.cancel()
        self.channel.close()

    def call(self, rpc: str, *, within_s: float = WITHIN_S, **fields: Any) -> Any:
        """One unary call by its name, with the request's fields."""
        request = message(f"{RPCS[rpc].split('.')[0]}.v1.{rpc}Request")(**fields)
        return self._unary(rpc)(request, timeout=within_s, wait_for_ready=self._patient)

    def _unary(self, rpc: str) -> Callable[..., Any]:
        service = RPCS[rpc]
        return self.channel.unary_unary(
            f"/{service}/{rpc}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=message(f"{service.split('.')[0]}.v1.{rpc}Response").FromString,
        )

    def register(self, user_id: str | None = None) -> str:
        fields = {} if user_id is None else {"userId": user_id}
        return str(self.call("RegisterUser", **fields).userId)

    def set_keys(self, user_id: str, **keys: str) -> None:
        """`btc`, `ltc`, `eth`, `bnb`: extended public keys; `xmr`: as REST has it, view:spend."""
        requests = {}
        for coin, key in keys.items():
            make = message(f"crypto.v1.{coin.capitalize()}KeysUpdateRequest")
            if coin == "xmr":
                view, _, spend = key.partition(":")
                requests["xmrReq"] = make(privViewKey=view, pubSpendKey=spend)
            else:
                requests[f"{coin}Req"] = make(masterPubKey=key)
        self.call("UpdateCryptoKeys", userId=user_id, **requests)

    def create(
        self,
        user_id: str,
        coin: str,
        amount_base: int,
        *,
        timeout_s: int = 3600,
        confirmations: int = 1,
    ) -> Created:
        answer = self.call(
            "CreateInvoice",
            userId=user_id,
            coin=enum_number("crypto.v1.CoinType", coin.upper()),
            amount=in_coins(amount_base),
            timeout=timeout_s,
            confirmations=confirmations,
        )
        return Created(answer.paymentId, answer.address)

    def get(self, *ids: str) -> list[Update]:
        return [Update.of(one) for one in self.call("GetInvoices", paymentIds=ids).invoices]

    def watch(self) -> StatusStream:
        """Open the status stream; it is open when this returns."""
        stream = StatusStream(
            self.channel.unary_stream(
                "/invoice.v1.InvoiceService/InvoiceStatusStream",
                request_serializer=lambda request: request.SerializeToString(),
                response_deserializer=message("invoice.v1.InvoiceStatusStreamResponse").FromString,
            )(message("invoice.v1.InvoiceStatusStreamRequest")(), wait_for_ready=self._patient)
        )
        self._streams.append(stream)
        return stream


class StatusStream:
    """Collects a status stream in a thread of its own."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._changed = threading.Condition()
        self._updates: list[Update] = []
        self._ended: grpc.RpcError | None = None
        self._done = False
        opened: queue.Queue[bool] = queue.Queue()
        self._thread = threading.Thread(target=self._read, args=(opened,), daemon=True)
        self._thread.start()
        assert opened.get(timeout=WITHIN_S)

    def _read(self, opened: queue.Queue[bool]) -> None:
        error: grpc.RpcError | None = None
        try:
            self._call.initial_metadata()  # returns when the call failed, too
            opened.put(True)
            for response in self._call:
                with self._changed:
                    self._updates.append(Update.of(response.invoice))
                    self._changed.notify_all()
        except grpc.RpcError as raised:
            error = raised
        with self._changed:
            self._ended, self._done = error, True
            self._changed.notify_all()

    def cancel(self) -> None:
        self._call.cancel()
        self._thread.join(WITHIN_S)

    def all(self) -> list[Update]:
        with self._changed:
            return [*self._updates]

    def updates(self, invoice_id: str) -> list[Update]:
        with self._changed:
            return [update for update in self._updates if update.id == invoice_id]

    def statuses(self, invoice_id: str) -> list[str]:
        return [update.status for update in self.updates(invoice_id)]

    def until(
        self,
        invoice_id: str,
        wanted: str | Callable[[list[Update]], bool],
        *,
        within_s: float = WITHIN_S,
    ) -> list[Update]:
        """Wait until the invoice's newest status is `wanted`, or its updates satisfy it."""

        def reached() -> bool:
            mine = [update for update in self._updates if update.id == invoice_id]
            if callable(wanted):
                return wanted(mine)
            return bool(mine) and mine[-1].status == wanted

        with self._changed:
            self._changed.wait_for(lambda: self._done or reached(), within_s)
            mine = [update for update in self._updates if update.id == invoice_id]
            assert reached(), f"waited for {wanted}; the stream has told {mine}"
        return mine

    def until_ended(self, *, within_s: float = WITHIN_S) -> grpc.RpcError | None:
        """How the stream ended; None for an end with OK."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._done, within_s), "the stream is still open"
            return self._ended
