"""Typed questions to one toncenter server, or to several as if they were one.

Methods raise TransientError and PersistentError, nothing else, with texts that name
`<setting>.daemon.url`. Whether a server speaks v3 or only v2 is found out when it is first asked.

A masterchain block is final: nobody takes it back. So a server whose last block is below one that
was seen before lags behind (or has a replica that does), and is waited for: its old tip is no news.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import trio

from actors.core.chain_view import BlockRef
from actors.ports import Log, PersistentError, TransientError
from daemon.drivers.endpoint import PoolPolicy, Sight
from daemon.drivers.endpoint_pool import NodePool
from daemon.drivers.jsonrpc_login import Login
from daemon.drivers.pooled_api import PooledApi
from daemon.drivers.ton_api import V2, V3, Api
from daemon.drivers.ton_http import PATIENCE_S, PATIENCE_WITH_OTHERS_S, NotThereError, TonHttp
from daemon.drivers.ton_wire import NETWORKS, Header, Network, TonTx

CHECK_TIMEOUT_S = 10.0
KNOWN_LIMIT = 4096
HEADERS_AT_ONCE = 900
LAG_PATIENCE_S = 30.0
"""How long a tip below one seen before is borne in silence."""
_NO_PARENT = bytes(32)
"""Of the first block that a server has."""

T = TypeVar("T")
Stack = tuple[int, list[tuple[str, str]]]


class _Apis:
    """Which version each server speaks; found out once, and again after `forget`."""

    def __init__(self) -> None:
        self._found: dict[TonHttp, Api] = {}

    async def first(
        self, node: TonHttp, *, timeout_s: float | None = None
    ) -> tuple[Api, Header, int | None]:
        """The server's version, its last block and the seqno of its first."""
        known = self._found.get(node)
        if known is not None:
            return (known, *await known.first(timeout_s=timeout_s))
        api: Api = V3(node)
        try:
            last, first = await api.first(timeout_s=timeout_s)
        except NotThereError:
            api = V2(node)
            last, first = await api.first(timeout_s=timeout_s)
        self._found[node] = api
        return api, last, first

    async def of(self, node: TonHttp) -> Api:
        known = self._found.get(node)
        return known if known is not None else (await self.first(node))[0]

    def forget(self, node: TonHttp) -> None:
        self._found.pop(node, None)


class TonProbe:
    """Tells servers of `network` from others, by the global id of their blocks."""

    def __init__(self, network: Network, apis: _Apis) -> None:
        self._network = network
        self._apis = apis

    @property
    def wanted(self) -> str:
        return f"servers of TON's {self._network.name}"

    async def look(self, client: TonHttp) -> Sight:
        self._apis.forget(client)
        _, last, _ = await self._apis.first(client, timeout_s=CHECK_TIMEOUT_S)
        if last.global_id != self._network.global_id:
            return Sight(last.seqno, f"it is of {_named(last.global_id)}, not {self._network.name}")
        return Sight(last.seqno)

    async def hash_at(self, client: TonHttp, height: int) -> str | None:
        api = await self._apis.of(client)
        found = await api.headers(range(height, height + 1), tip=height)
        return found[height].hash.hex() if height in found else None


class TonRpc(PooledApi[TonHttp]):
    """Typed calls to the active server of a pool, which this owns."""

    UNTRUE_ADVICE = "Correct the URL in {setting}.daemon.url, or use another server"

    def __init__(
        self,
        clients: Sequence[TonHttp],
        *,
        network: Network,
        log: Log,
        policy: PoolPolicy | None = None,
    ) -> None:
        self.network = network
        self._log = log
        self._apis = _Apis()
        probe = TonProbe(network, self._apis)
        super().__init__(NodePool(clients, probe=probe, log=log, policy=policy))
        self._known: dict[int, Header] = {}
        self._known_of = 0
        self._highest: Header | None = None
        self._lags_since: float | None = None

    async def active(self) -> TonHttp:
        """The client of the server that is asked now."""

        async def ask(node: TonHttp) -> TonHttp:
            return node

        return await self._pool.use(ask, kind="none")

    # --- blocks ---

    async def describe(self) -> tuple[str, BlockRef, int | None]:
        """(what the server is, its last block, the seqno of the first that can be read)."""

        async def ask(node: TonHttp) -> tuple[str, Header, int | None]:
            self._apis.forget(node)
            api, last, first = await self._apis.first(node)
            return api.name, last, first

        name, last, first = await self._pool.use(ask, kind="info")
        if last.global_id != self.network.global_id:
            raise PersistentError(
                f"{self.where} is of {_named(last.global_id)}, but {self.setting}.network is"
                f" {self.network.name}. Correct one of the two"
            )
        self._learn([last])
        return name, await self.ref(last), first

    async def tip(self) -> tuple[BlockRef, bool]:
        """(the last block, whether the server has it now).

        Not so when the server lags behind what it, or another one, had reached: raises
        TransientError when it does not catch up for LAG_PATIENCE_S.
        """

        async def ask(node: TonHttp) -> list[Header]:
            return await (await self._apis.of(node)).recent()

        recent = await self._pool.use(ask, kind="tip")
        self._learn(recent)
        last, highest = recent[0], self._highest
        if highest is None or last.seqno >= highest.seqno:
            self._highest = last
            self._lags_since = None
            return await self.ref(last), True
        now = trio.current_time()
        if self._lags_since is None:
            self._lags_since = now
        if now - self._lags_since > LAG_PATIENCE_S:
            raise TransientError(
                f"{self.where} is at masterchain block {last.seqno}, below block"
                f" {highest.seqno} that was reached before: its indexer lags behind. Wait for it,"
                " or use another server"
            )
        return await self.ref(highest), False

    async def block(self, seqno: int) -> BlockRef | None:
        """The block at `seqno`; None where there is none (yet)."""
        found = await self.blocks(range(seqno, seqno + 1))
        return found[0] if found else None

    async def blocks(self, seqnos: range) -> list[BlockRef]:
        """The blocks at consecutive seqnos; shorter where the chain ends."""
        headers = await self.headers(range(seqnos.start - 1, seqnos.stop))
        by_seqno = {each.seqno: each for each in headers}
        found = []
        for seqno in seqnos:
            if seqno not in by_seqno:
                break
            parent = by_seqno.get(seqno - 1)
            found.append(_block_ref(by_seqno[seqno], parent.hash if parent else _NO_PARENT))
        return found

    async def headers(self, seqnos: range) -> list[Header]:
        """Those of the blocks that there are."""
        self._begin()
        wanted = [seqno for seqno in seqnos if seqno >= 1 and seqno not in self._known]
        found = {seqno: self._known[seqno] for seqno in seqnos if seqno in self._known}
        if wanted:
            for start in range(wanted[0], wanted[-1] + 1, HEADERS_AT_ONCE):
                some = range(start, min(start + HEADERS_AT_ONCE, wanted[-1] + 1))
                found |= await self._ask_headers(some)
        return [found[seqno] for seqno in sorted(found) if seqno in seqnos]

    async def ref(self, header: Header) -> BlockRef:
        found = await self.headers(range(header.seqno - 1, header.seqno))
        return _block_ref(header, found[0].hash if found else _NO_PARENT)

    async def payments(self, header: Header) -> tuple[TonTx, ...]:
        """The block's transactions that may be payments. Raises IncompleteError."""

        async def ask(node: TonHttp) -> tuple[TonTx, ...]:
            return await (await self._apis.of(node)).payments(header)

        return await self._pool.use(ask, kind="transactions")

    # --- contracts ---

    async def run(self, account: bytes, method: str, args: Sequence[str] = ()) -> Stack:
        """(exit code, stack) of a get method; `args` are slices, in base64."""

        async def ask(node: TonHttp) -> Stack:
            return await (await self._apis.of(node)).run(account, method, args)

        return await self._pool.use(ask, kind="run")

    async def jetton_decimals(self, account: bytes) -> int | None:
        async def ask(node: TonHttp) -> int | None:
            return await (await self._apis.of(node)).jetton_decimals(account)

        return await self._pool.use(ask, kind="jetton")

    # --- servers ---

    def forget(self) -> None:
        """Believe nothing that was said before; to begin anew with."""
        self._known.clear()

    # --- inner ---

    async def _ask_headers(self, seqnos: range) -> dict[int, Header]:
        tip = self._highest.seqno if self._highest else seqnos[-1]
        after = self._known.get(seqnos[0] - 1)

        async def ask(node: TonHttp) -> dict[int, Header]:
            return await (await self._apis.of(node)).headers(seqnos, tip=tip, after=after)

        found = await self._pool.use(ask, kind="headers")
        self._learn(list(found.values()))
        return found

    def _begin(self) -> None:
        """Forget what another server said."""
        if self._known_of != self._pool.switches:
            self._known_of = self._pool.switches
            self._known.clear()

    def _learn(self, headers: Sequence[Header]) -> None:
        self._begin()
        for header in headers:
            known = self._known.get(header.seqno)
            if known is not None and known.hash != header.hash:
                self._known.clear()
                self._highest = None
                raise self.distrust(
                    f"gave masterchain block {header.seqno} as {header.hash.hex()}, which was"
                    f" {known.hash.hex()} before"
                )
            self._known[header.seqno] = header
        while len(self._known) > KNOWN_LIMIT:
            del self._known[next(iter(self._known))]


def _block_ref(header: Header, parent: bytes) -> BlockRef:
    return BlockRef(header.seqno, header.hash, parent, header.time_s)


def _named(global_id: int | None) -> str:
    known = next((each.name for each in NETWORKS.values() if each.global_id == global_id), None)
    return known or f"a network with global id {global_id}"


def open_ton(
    urls: Sequence[str],
    *,
    setting: str,
    log: Log,
    network: str,
    login: Login | None = None,
    timeout_s: float = 30.0,
    policy: PoolPolicy | None = None,
) -> TonRpc:
    """The servers at `urls`, the preferred one first; connects to nothing yet.

    `network` is one of NETWORKS. The password of `login` is the API key of the first server; others
    bring theirs in the URL, so that no key goes to a stranger. Raises ValueError for a URL that is
    none.
    """
    clients = [
        TonHttp(
            url,
            setting=setting,
            log=log,
            login=login if place == 0 else None,
            timeout_s=timeout_s,
            patience_s=PATIENCE_S if len(urls) == 1 else PATIENCE_WITH_OTHERS_S,
        )
        for place, url in enumerate(urls)
    ]
    return TonRpc(clients, network=NETWORKS[network], log=log, policy=policy)
