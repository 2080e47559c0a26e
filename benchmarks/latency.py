"""From a node's push of a payment to its event on a client's stream, durable commit included.

A real node, the real daemon on SQLite, an official gRPC client. Four processes read the same
clock (CLOCK_MONOTONIC): the node and the daemon are what they are; a pacer hands signed
transactions to the node at an even rate; a tap subscribes to the node's ZMQ as the daemon does and
notes when a transaction was pushed; the client notes when the event of it arrived. Nothing of the
daemon takes part in measuring.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import secrets
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc
import zmq
from bip_utils import Bip32Slip10Secp256k1

from benchmarks.process import cpu_s, waits_s
from benchmarks.report import ROOT, say
from daemon.drivers.bitcoin_wire import parse_tx
from proto.goipay.crypto.v1 import BtcKeysUpdateRequest, CoinType
from proto.goipay.invoice.v1 import (
    CreateInvoiceRequest,
    CreateInvoiceResponse,
    InvoiceStatusStreamRequest,
    InvoiceStatusStreamResponse,
    InvoiceStatusType,
)
from proto.goipay.user.v1 import (
    RegisterUserRequest,
    RegisterUserResponse,
    UpdateCryptoKeysRequest,
    UpdateCryptoKeysResponse,
)
from tests.helpers.bitcoin_rpc import RpcClient
from tests.helpers.bitcoin_tx import Tx, TxIn, TxOut
from tests.helpers.bitcoind import COIN_BASE, BitcoinNode, coins
from tests.helpers.daemon import Daemon

PRICE_BASE = 100_000
FEE_BASE = 1_000
GRACE_S = 30.0
"""How long after the last payment an event is still waited for."""
_BATCH = 250
_SPAWN = multiprocessing.get_context("spawn")

Times = dict[str, int]
"""txid → CLOCK_MONOTONIC in nanoseconds."""


def run(*, payments: int = 1_000, rate_per_s: float = 50.0) -> dict[str, Any]:
    """Milliseconds by percentile, from the push and from handing the transaction to the node."""
    folder = ROOT / ".cache" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix="latency-") as state,
        BitcoinNode("btc") as node,
    ):
        say(f"splitting coins for {payments} payments")
        node.fund()
        inputs = _split(node, payments)
        with Daemon(Path(state), nodes=(node,)) as daemon:
            say("creating the invoices, signing their payments")
            addresses = _create_invoices(daemon.grpc_port, payments)
            raws = _sign(node, inputs, addresses)
            daemon.wait_current()
            say(f"paying {rate_per_s:g} a second for {payments / rate_per_s:.0f} s")
            cpu_before_s, waits_before_s = cpu_s(daemon.pid), waits_s(daemon.pid)
            sent, pushed, told = _measure(node, daemon.grpc_port, raws, rate_per_s)
            worked_s = cpu_s(daemon.pid) - cpu_before_s
            waits = waits_s(daemon.pid)
            # Threads that read for the API end when nobody asks; the ones that matter stay.
            waited_s = sum(
                waits[one] - waits_before_s[one] for one in waits.keys() & waits_before_s
            )
        commit_s = _commit_s(Path(state))
    missing = payments - len(sent.keys() & pushed.keys() & told.keys())
    if missing:
        raise RuntimeError(f"{missing} of {payments} payments had no event on the stream in time")
    return {
        "payments": payments,
        "rate_per_s": rate_per_s,
        **_figures("push_to_client", pushed, told),
        **_figures("send_to_client", sent, told),
        "daemon_processor_ms_per_payment": round(worked_s / payments * 1000, 2),
        # Near nothing on a machine that does nothing else; otherwise the tail is not our doing.
        "daemon_waited_for_processor_ms_per_payment": round(waited_s / payments * 1000, 2),
        "disk_write_and_sync_ms_p50": round(commit_s * 1000, 3),
    }


def _figures(name: str, since: Times, until: Times) -> dict[str, float]:
    taken_ms = sorted((until[txid] - since[txid]) / 1e6 for txid in until)
    return {
        f"{name}_ms_p50": round(percentile(taken_ms, 50), 2),
        f"{name}_ms_p90": round(percentile(taken_ms, 90), 2),
        f"{name}_ms_p99": round(percentile(taken_ms, 99), 2),
        f"{name}_ms_max": round(taken_ms[-1], 2),
    }


def percentile(ascending: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all are not above (nearest rank)."""
    return ascending[max(0, math.ceil(len(ascending) * percent / 100) - 1)]


def _measure(
    node: BitcoinNode, grpc_port: int, raws: list[str], rate_per_s: float
) -> tuple[Times, Times, Times]:
    limit_s = len(raws) / rate_per_s + GRACE_S
    with (
        _helper(_tap, node.zmq_endpoint, len(raws), limit_s) as tap,
        _helper(_client, grpc_port, len(raws), limit_s) as client,
        _helper(_pace, node.rpc_port, f"{node.user}:{node.password}", raws, rate_per_s) as pacer,
    ):
        while not tap.poll(0.2):
            node.mine_empty()  # a subscription takes effect some time after it was asked for
        for helper in (tap, client, pacer):
            assert helper.recv() == "ready"
        pacer.send("go")
        return pacer.recv(), tap.recv(), client.recv()


@contextlib.contextmanager
def _helper(run: Any, *arguments: Any) -> Iterator[Connection]:
    """A process that says "ready" and then, in the end, its findings."""
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=run, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        process.join(1)
        process.kill()
        process.join()
        ours.close()


# --- the processes that take the times ------------------------------------------------------------


def _tap(report: Connection, endpoint: str, count: int, limit_s: float) -> None:
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.SUBSCRIBE, b"rawtx")
    socket.connect(endpoint)
    socket.recv_multipart()  # of a block that was mined for this
    report.send("ready")
    times: Times = {}
    deadline = time.monotonic() + limit_s
    while len(times) < count and socket.poll(max(0, deadline - time.monotonic()) * 1000):
        raw = socket.recv_multipart()[1]
        at = time.monotonic_ns()
        tx = parse_tx(raw)
        if tx.txid is not None and not tx.is_coinbase:
            times.setdefault(tx.txid.hex(), at)
    report.send(times)
    context.destroy(linger=0)


def _client(report: Connection, port: int, count: int, limit_s: float) -> None:
    times: Times = {}
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stream = channel.unary_stream(
            "/invoice.v1.InvoiceService/InvoiceStatusStream", request_serializer=bytes
        )(InvoiceStatusStreamRequest(), timeout=limit_s)
        stream.initial_metadata()
        report.send("ready")
        with contextlib.suppress(grpc.RpcError):  # the time is up: what is missing is counted
            for data in stream:
                at = time.monotonic_ns()
                invoice = InvoiceStatusStreamResponse.parse(data).invoice
                assert invoice is not None
                if invoice.status is InvoiceStatusType.PENDING_MEMPOOL:
                    times.setdefault(invoice.tx_id, at)
                    if len(times) == count:
                        break
    report.send(times)


def _pace(
    report: Connection, port: int, login: str, raws: Sequence[str], rate_per_s: float
) -> None:
    rpc = RpcClient(port, lambda: login)
    report.send("ready")
    report.recv()
    times: Times = {}
    began = time.monotonic()
    for number, raw in enumerate(raws):
        time.sleep(max(0, began + number / rate_per_s - time.monotonic()))
        at = time.monotonic_ns()
        times[rpc.call("sendrawtransaction", raw)] = at
    report.send(times)


# --- what is prepared -----------------------------------------------------------------------------


def _split(node: BitcoinNode, count: int) -> list[dict[str, Any]]:
    """So many confirmed outputs that pay for one invoice each: chains in the mempool are short."""
    script = bytes.fromhex(node.rpc("getaddressinfo", node.new_address())["scriptPubKey"])
    coin = node.rpc("listunspent")[0]
    # By hand: the node's own calls refuse to pay one address twice, and a thousand are slow to get.
    spent = TxIn(bytes.fromhex(coin["txid"])[::-1], coin["vout"])
    split = Tx((spent,), (TxOut(PRICE_BASE + FEE_BASE, script),) * count)
    signed = node.rpc("signrawtransactionwithwallet", split.serialise().hex())
    assert signed["complete"]
    # What is left of the coin goes to the miner: no limit on the fee.
    txid = node.rpc("sendrawtransaction", signed["hex"], 0)
    node.mine()
    return [{"txid": txid, "vout": number} for number in range(count)]


def _sign(node: BitcoinNode, inputs: list[dict[str, Any]], addresses: list[str]) -> list[str]:
    price = coins(PRICE_BASE)
    raws: list[str] = []
    for at in range(0, len(inputs), _BATCH):
        pairs = zip(inputs[at : at + _BATCH], addresses[at : at + _BATCH], strict=True)
        bare = node.client.batch(
            [("createrawtransaction", ([one], {address: price})) for one, address in pairs]
        )
        signed = node.client.batch([("signrawtransactionwithwallet", (raw,)) for raw in bare])
        assert all(one["complete"] for one in signed)
        raws.extend(one["hex"] for one in signed)
    return raws


def _create_invoices(port: int, count: int) -> list[str]:
    key = Bip32Slip10Secp256k1.FromSeed(secrets.token_bytes(32)).DerivePath("m/84'/1'/0'")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:

        def method(path: str, answer: Any) -> Any:
            return channel.unary_unary(
                path, request_serializer=bytes, response_deserializer=answer.parse
            )

        register = method("/user.v1.UserService/RegisterUser", RegisterUserResponse)
        user_id = register(RegisterUserRequest()).user_id
        method("/user.v1.UserService/UpdateCryptoKeys", UpdateCryptoKeysResponse)(
            UpdateCryptoKeysRequest(
                user_id=user_id,
                btc_req=BtcKeysUpdateRequest(master_pub_key=key.PublicKey().ToExtended()),
            )
        )
        create = method("/invoice.v1.InvoiceService/CreateInvoice", CreateInvoiceResponse)
        wanted = CreateInvoiceRequest(
            user_id=user_id,
            coin=CoinType.BTC,
            amount=PRICE_BASE / COIN_BASE,
            timeout=86_400,
            confirmations=1,
        )
        addresses: list[str] = []
        while len(addresses) < count:
            calls = [create.future(wanted) for _ in range(min(50, count - len(addresses)))]
            addresses.extend(call.result().address for call in calls)
    return addresses


# --- what explains the figures --------------------------------------------------------------------


def _commit_s(folder: Path) -> float:
    """What this disk asks for making one page durable: below that no commit can be."""
    path = folder / "sync"
    taken = []
    with path.open("wb", buffering=0) as file:
        for _ in range(50):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)
