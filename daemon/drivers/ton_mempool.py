"""Payments that a shard has confirmed and the masterchain has not yet: from a server's stream.

TON has no mempool to look into. What an indexer calls pending it has computed ahead: such a
transaction gets another hash once it is in a block, so telling of it would count money twice. A
transaction in a shard's block has its final hash; seconds later the masterchain takes that in, or
never. Only these are told, and a server without a stream (toncenter's streaming API v2, a
websocket) tells of none: its payments are seen with their masterchain block.

Whatever the stream does costs latency, never a payment. What it says also wakes whoever asks for
the tip.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import orjson
import trio

from actors.core.chain_events import ChainTx
from actors.core.watch_index import WatchIndex
from actors.ports import (
    Log,
    MempoolSnapshot,
    PersistentError,
    TransientError,
    TxArrived,
    TxLeft,
)
from daemon.drivers import ton_wire as wire
from daemon.drivers.jsonrpc_http import ConnectionLostError, GarbledError, TooLargeError
from daemon.drivers.signal_buffer import SignalBuffer
from daemon.drivers.ton_cells import ACCOUNT_BYTES
from daemon.drivers.ton_match import Matcher
from daemon.drivers.ton_rpc import TonRpc
from daemon.drivers.ton_wire import TonWireError
from daemon.drivers.txid_set import TxidSet
from daemon.drivers.websocket import OPEN_S, RejectedError, WebSocket, run_websocket

ADDRESS_LIMIT = 1000
"""Accounts that are subscribed to, the newest ones; a server may allow fewer."""
ENTRY_LIMIT = 10_000
KEPT_S = 60.0
"""A shard's block that no masterchain block took in by then never will be."""
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
PING_S = 15.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
_LOOK_S = 1.0
_TOLD_LIMIT = 10_000
_OFFERS_NONE = (404, 405, 501)
_ALLOWED = re.compile(r"max (\d+)")
_SUBSCRIBE_ID = "subscribe"

OpenDestinations = Callable[[], Collection[bytes]]


class _Entry(NamedTuple):
    tx: ChainTx
    heard_at: float
    trace: str
    """Of the trace that it belongs to: the normalised hash of the message from outside."""


class _NoStreamError(Exception):
    """The server offers no stream."""


class Mempool:
    """What the stream told of open invoices' accounts and no block had yet.

    `open_destinations` gives the destinations of open invoices; without it nothing is subscribed
    to.
    """

    def __init__(
        self,
        rpc: TonRpc,
        matcher: Matcher,
        *,
        open_destinations: OpenDestinations | None,
        log: Log,
    ) -> None:
        self._rpc = rpc
        self._matcher = matcher
        self._open_destinations = open_destinations
        self._log = log
        self._entries: dict[bytes, _Entry] = {}
        self._in_blocks = TxidSet(_TOLD_LIMIT)
        self._spoken = trio.Event()
        self._limit = ADDRESS_LIMIT
        self._subscribed: tuple[bytes, ...] = ()
        self._is_in_trouble = False
        self._said_none = False
        self.is_live = False
        """Whether the stream is connected and subscribed to."""

    def __len__(self) -> int:
        return len(self._entries)

    def renew(self) -> trio.Event:
        """The event that is set when the stream next speaks."""
        self._spoken = trio.Event()
        return self._spoken

    def snapshot(self) -> MempoolSnapshot:
        txs = tuple(entry.tx for entry in self._entries.values())
        return MempoolSnapshot(txids=frozenset(self._entries), txs=txs)

    def in_block(self, txid: bytes) -> None:
        """A transaction of ours is in a masterchain block: the stream has nothing to add."""
        self._entries.pop(txid, None)
        self._in_blocks.add(txid)

    async def run(self, index: WatchIndex, buffer: SignalBuffer) -> None:
        """Listen until cancelled, or until the server turns out to have no stream."""
        self._entries.clear()
        if self._open_destinations is None:
            return
        pause_s = FIRST_PAUSE_S
        while True:
            began = trio.current_time()
            try:
                await self._wait_for_addresses()
                await self._listen(index, buffer)
            except _NoStreamError as error:
                if not self._said_none:
                    self._said_none = True
                    self._log.info(
                        "server offers no stream: payments are seen with their masterchain block",
                        endpoint=self._rpc.where,
                        because=str(error),
                    )
                return
            except (TransientError, PersistentError) as error:
                self._trouble(str(error))
            finally:
                self.is_live = False
                self._subscribed = ()
            if trio.current_time() - began > LONGEST_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    # --- the connection ---

    async def _listen(self, index: WatchIndex, buffer: SignalBuffer) -> None:
        node = await self._rpc.active()
        address = node.stream_address
        words = node.words_of(address)

        async def talk(socket: WebSocket) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_subscribed, socket, buffer)
                await self._read(socket, index, buffer)

        try:
            await run_websocket(
                address, talk, authorization=None, max_message_bytes=MAX_MESSAGE_BYTES
            )
        except RejectedError as error:
            if error.status in _OFFERS_NONE:
                raise _NoStreamError(f"HTTP {error.status}") from None
            told = words.status_error(error.status, error.body, error.retry_after)
            raise told or words.transient(f"refused its stream (HTTP {error.status})") from None
        except (
            OSError,
            trio.TooSlowError,
            ConnectionLostError,
            GarbledError,
            TooLargeError,
        ) as error:
            told = words.told(error, timeout_s=OPEN_S, limit_bytes=MAX_MESSAGE_BYTES)
            assert told is not None, "the same errors are known there"
            raise told from None

    async def _keep_subscribed(self, socket: WebSocket, buffer: SignalBuffer) -> None:
        """Subscribe anew when other invoices are open; drop what became too old; ask for life."""
        pinged_at = trio.current_time()
        while True:
            wanted = self._accounts()
            if wanted and wanted != self._subscribed:
                self._subscribed = wanted
                request = {
                    "operation": "subscribe",
                    "id": _SUBSCRIBE_ID,
                    "types": ["transactions"],
                    "addresses": [wire.raw_address(account) for account in wanted],
                    "min_finality": "confirmed",
                }
                await socket.send(orjson.dumps(request).decode())
            now = trio.current_time()
            if now - pinged_at >= PING_S:
                pinged_at = now
                with trio.move_on_after(PING_S) as waited:
                    await socket.ping()
                if waited.cancelled_caught:
                    raise ConnectionLostError(f"answers no ping for {PING_S:g} s")
            for txid, entry in list(self._entries.items()):
                if now - entry.heard_at > KEPT_S:
                    self._drop(txid, buffer)
            await trio.sleep(_LOOK_S)

    async def _read(self, socket: WebSocket, index: WatchIndex, buffer: SignalBuffer) -> None:
        while True:
            message = await socket.receive()
            try:
                event = orjson.loads(message)
            except ValueError:
                raise GarbledError("no JSON in its stream") from None
            if not isinstance(event, dict):
                raise GarbledError("no object in its stream")
            try:
                await self._hear(event, index, buffer)
            except TonWireError as error:
                raise GarbledError(f"in its stream {error}") from None

    # --- what is said ---

    async def _hear(
        self, event: Mapping[str, Any], index: WatchIndex, buffer: SignalBuffer
    ) -> None:
        if "error" in event:
            self._refused(str(event["error"])[:300])
        elif event.get("status") == "subscribed":
            if not self.is_live:
                self.is_live = True
                if self._is_in_trouble:
                    self._is_in_trouble = False
                    self._log.info("stream works again", endpoint=self._rpc.where)
        elif event.get("type") == "transactions":
            self._spoken.set()
            await self._take_in(event, index, buffer)
        elif event.get("type") == "trace_invalidated":
            trace = str(event.get("trace_external_hash_norm"))
            for txid, entry in list(self._entries.items()):
                if entry.trace == trace:
                    self._drop(txid, buffer)

    async def _take_in(
        self, event: Mapping[str, Any], index: WatchIndex, buffer: SignalBuffer
    ) -> None:
        now = trio.current_time()
        await self._matcher.follow(index)
        for each in wire.as_list(event.get("transactions"), "transactions"):
            item = wire.as_object(each, "a transaction")
            if item.get("emulated") is not False or item.get("finality") != "confirmed":
                # Computed ahead, or in the masterchain already, where it is read.
                continue
            tx = wire.transaction(item)
            if tx is None or tx.hash in self._entries or tx.hash in self._in_blocks:
                continue
            found = await self._matcher.match(tx, index)
            if found is not None and len(self._entries) < ENTRY_LIMIT:
                trace = str(event.get("trace_external_hash_norm"))
                self._entries[tx.hash] = _Entry(found, now, trace)
                buffer.put(TxArrived(found, now))

    def _drop(self, txid: bytes, buffer: SignalBuffer) -> None:
        del self._entries[txid]
        buffer.put(TxLeft(txid))

    def _refused(self, said: str) -> None:
        allowed = _ALLOWED.search(said)
        if allowed is None or not 0 < int(allowed[1]) < len(self._subscribed):
            raise TransientError(f"{self._rpc.where} refuses to tell news: {said}")
        self._limit = int(allowed[1])
        # The next look subscribes to fewer.
        self._subscribed = ()

    def _trouble(self, why: str) -> None:
        if not self._is_in_trouble:
            self._is_in_trouble = True
            self._log.warning(
                "stream does not work; payments are seen with their masterchain block until it"
                " does",
                endpoint=self._rpc.where,
                because=why,
            )

    # --- accounts ---

    async def _wait_for_addresses(self) -> None:
        while not self._accounts():  # noqa: ASYNC110 - invoices are opened without a word to drivers
            await trio.sleep(_LOOK_S)

    def _accounts(self) -> tuple[bytes, ...]:
        """Of open invoices, each with its jetton wallets; the newest when they are too many."""
        assert self._open_destinations is not None, "nobody listens without"
        owners = list(dict.fromkeys(each[:ACCOUNT_BYTES] for each in self._open_destinations()))[
            -self._limit :
        ]
        accounts: list[bytes] = []
        for owner in reversed(owners):
            own = [owner, *self._matcher.wallets_of(owner)]
            if len(accounts) + len(own) > self._limit:
                break
            accounts += own
        return tuple(accounts)
