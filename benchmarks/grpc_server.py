"""Our gRPC server against plain grpclib on asyncio: same messages, same load, one run.

``bench_unary()`` and ``bench_fanout()`` return figures; run as a program it prints both. Each
server has a process of its own; the calling process is the load generator, which counts frames
instead of parsing messages so that the server is the bottleneck.
"""

import json
import selectors
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from hpack import Encoder

from benchmarks.grpc_servers import one_frame

UNARY = "/user.v1.UserService/RegisterUser"
STREAM = "/invoice.v1.InvoiceService/InvoiceStatusStream"
TRIGGER = "/user.v1.UserService/UpdateCryptoKeys"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING = 0x0, 0x1, 0x4, 0x6
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream_id) + payload


def message(text: str) -> bytes:
    field = text.encode()
    body = b"\x0a" + bytes([len(field)]) + field if field else b""
    return struct.pack(">BI", 0, len(body)) + body


class Load:
    """One client connection that sends prepared calls and counts what comes back."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.encoder = Encoder()
        self.buffer = bytearray()
        self.next_id = 1
        self.data_bytes = 0
        self.data_frames = 0
        self.last_data_bytes = 0
        self.finished = 0
        big = struct.pack(">HI", 4, 2**31 - 1)
        window = (2**31 - 1 - 65535).to_bytes(4, "big")
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0, big) + frame(8, 0, 0, window))

    def block(self, path: str) -> bytes:
        return self.encoder.encode(
            [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", path),
                (":authority", "127.0.0.1"),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
                ("user-agent", "load/1"),
                ("grpc-accept-encoding", "identity"),
            ]
        )

    def call(self, block: bytes, body: bytes) -> bytes:
        stream_id, self.next_id = self.next_id, self.next_id + 2
        head = frame(HEADERS, END_HEADERS, stream_id, block)
        return head + frame(DATA, END_STREAM, stream_id, body)

    def read(self) -> None:
        """Take what has arrived; count frames and payload bytes of DATA, and ended streams."""
        data = self.socket.recv(262_144)
        if not data:
            raise ConnectionError("the server closed the connection")
        buffer = self.buffer
        buffer += data
        position, end = 0, len(buffer)
        while end - position >= 9:
            size = int.from_bytes(buffer[position : position + 3], "big")
            if end - position < 9 + size:
                break
            kind, flags = buffer[position + 3], buffer[position + 4]
            if kind == DATA:
                self.data_bytes += size
                self.data_frames += 1
                self.last_data_bytes = size
            elif kind == HEADERS:
                self.finished += flags & END_STREAM
            elif kind == SETTINGS and not flags & ACK:
                self.socket.sendall(frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                payload = bytes(buffer[position + 9 : position + 17])
                self.socket.sendall(frame(PING, ACK, 0, payload))
            position += 9 + size
        del buffer[:position]


@contextmanager
def server(kind: str) -> Iterator[int]:
    """Run one of the servers in its own process; gives its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.grpc_servers", kind],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def load_unary(port: int, *, calls: int, concurrency: int, connections: int) -> float:
    """Calls per second with so many calls in flight at any time."""
    loads = [Load(port) for _ in range(connections)]
    selector = selectors.DefaultSelector()
    body = message("6f1f2c9e-0f0e-4f5b-8c9f-0c2f5a1b2c3d")
    blocks = {}
    for load in loads:
        selector.register(load.socket, selectors.EVENT_READ, load)
        first = load.block(UNARY)
        # The first block fills the peer's header table; every later one is the same few indices.
        blocks[load] = load.block(UNARY)
        load.socket.sendall(load.call(first, body))
        while not load.finished:
            load.read()
        load.finished = 0
    each = concurrency // connections
    started = time.perf_counter()
    for load in loads:
        load.socket.sendall(b"".join(load.call(blocks[load], body) for _ in range(each)))
    sent, done = each * connections, 0
    while done < calls:
        for key, _ in selector.select():
            load = key.data
            load.read()
            ready, load.finished = load.finished, 0
            done += ready
            more = min(ready, calls - sent)
            if more > 0:
                sent += more
                load.socket.sendall(b"".join(load.call(blocks[load], body) for _ in range(more)))
    elapsed = time.perf_counter() - started
    for load in loads:
        load.socket.close()
    return calls / elapsed


class Fanout:
    """Many subscribers on some connections, and one publisher."""

    def __init__(self, port: int, *, subscribers: int, connections: int) -> None:
        self.control = Load(port)
        self.loads = [Load(port) for _ in range(connections)]
        self.selector = selectors.DefaultSelector()
        self.each = subscribers // connections
        self.event_bytes = len(one_frame()) * self.each
        for load in self.loads:
            self.selector.register(load.socket, selectors.EVENT_READ, load)
            calls = [load.call(load.block(STREAM), message("")) for _ in range(self.each)]
            load.socket.sendall(b"".join(calls))

    def publish(self, count: int) -> None:
        body = message(str(count))
        self.control.socket.sendall(self.control.call(self.control.block(TRIGGER), body))

    def collect(self, events: int, *, patience_s: float) -> bool:
        """Read until all have so many events; False when nothing comes for so long."""
        wanted = self.event_bytes * events
        waiting = {load for load in self.loads if load.data_bytes < wanted}
        while waiting:
            ready = self.selector.select(patience_s)
            if not ready:
                return False
            for key, _ in ready:
                key.data.read()
                if key.data.data_bytes >= wanted:
                    waiting.discard(key.data)
        return True

    def gather(self) -> None:
        """Publish until one event reaches every subscriber: then all of them have joined."""
        for _ in range(100):
            for load in self.loads:
                load.data_bytes = 0
            self.publish(1)
            if self.collect(1, patience_s=0.3):
                break
        else:
            raise RuntimeError("the subscribers do not all join")
        for load in self.loads:
            load.data_bytes = 0

    def close(self) -> None:
        self.selector.close()
        for load in (*self.loads, self.control):
            load.socket.close()


def load_fanout(port: int, *, subscribers: int, events: int, connections: int) -> float:
    """Deliveries per second while one publisher sends events to all subscribers."""
    fanout = Fanout(port, subscribers=subscribers, connections=connections)
    fanout.gather()
    started = time.perf_counter()
    fanout.publish(events)
    complete = fanout.collect(events, patience_s=30)
    elapsed = time.perf_counter() - started
    fanout.close()
    if not complete:
        raise RuntimeError("a subscriber did not get all events")
    return fanout.each * connections * events / elapsed


def _compare(load, kinds: tuple[str, ...], rounds: int) -> dict[str, float]:
    """Median rates by server, measured in turn so that a busy machine hurts all alike."""
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind in kinds:
            with server(kind) as port:
                rates[kind].append(load(port))
    return {kind: statistics.median(values) for kind, values in rates.items()}


def bench_unary(
    *, calls: int = 6000, concurrency: int = 32, connections: int = 4, rounds: int = 3
) -> dict[str, float]:
    """Unary calls per second; the ratio is ours to grpclib's."""
    rates = _compare(
        lambda port: load_unary(
            port, calls=calls, concurrency=concurrency, connections=connections
        ),
        ("trio", "grpclib"),
        rounds,
    )
    return {
        "unary_calls_per_s": rates["trio"],
        "unary_grpclib_calls_per_s": rates["grpclib"],
        "unary_ratio": rates["trio"] / rates["grpclib"],
    }


def bench_fanout(
    *, subscribers: int = 1000, events: int = 60, connections: int = 200, rounds: int = 3
) -> dict[str, float]:
    """Deliveries per second to so many streams, spread over the connections.

    ``fanout_ratio`` is against a grpclib server that also encodes each event only once;
    ``fanout_ratio_plain`` against one that encodes it for each stream, as grpclib does.
    """

    def load(port: int) -> float:
        return load_fanout(port, subscribers=subscribers, events=events, connections=connections)

    rates = _compare(load, ("trio", "grpclib-cached"), rounds)
    plain = _compare(
        lambda port: load_fanout(
            port, subscribers=subscribers, events=max(1, events // 20), connections=connections
        ),
        ("grpclib",),
        1,
    )
    return {
        "fanout_deliveries_per_s": rates["trio"],
        "fanout_grpclib_deliveries_per_s": rates["grpclib-cached"],
        "fanout_ratio": rates["trio"] / rates["grpclib-cached"],
        "fanout_ratio_plain": rates["trio"] / plain["grpclib"],
    }


def main() -> None:
    print(json.dumps(bench_unary() | bench_fanout(), indent=2))


if __name__ == "__main__":
    main()
