"""Native coin that contracts pay: it has no log, and the payee is not the transaction's `to`.

Theory of operation
-------------------
A node that traces tells it all, exactly: by `trace_block` or by `debug_traceBlockByNumber`. Which
of them is offered is probed on the newest block after each connection.

Without traces the balances of the addresses of open invoices are compared over each block: what
rose by more than the block's own payments explain was paid by a contract. Such a payment has no
transaction: its place is the block in which the balance rose, and its conflict key says from which
balance (and after how many transactions of the address itself), so that after a reorg the same
rise in another block takes the place of the first. What an address sends away in the very block in
which a contract pays it hides that payment.

Nodes keep old states, which both ways need, for 128 blocks or so. Blocks whose state is gone are
read without; that is said loudly, once for each stretch of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from enum import Enum

import trio

from actors.core.chain_events import ChainTx, OutPoint, Output
from actors.ports import Log, PersistentError, TransientError
from daemon.drivers.evm_rpc import EvmRpc, header_call
from daemon.drivers.evm_trace import TraceMissingError, from_call_tracer, from_trace_block
from daemon.drivers.evm_wire import BALANCE, EvmBlock, Internals, OtherBlockError
from daemon.drivers.jsonrpc_words import Call, RpcError

PROBE_S = 10.0
BALANCES_LIMIT = 5_000
"""Open invoices whose balances are compared over each block; more are left to chance."""
SHOWN_ADDRESSES = 20
RECENT_BLOCKS = 64
PATIENCE_S = 30.0
"""How long a recent block's missing state is waited for before the block is read without."""
_TRACER = {"tracer": "callTracer"}
# geth and bsc, reth and Erigon, Nethermind, anvil.
_NO_STATE = ("missing trie node", "state", "pruned", "pruning", "no trace of",
    "resource not found", "outofrange")  # fmt: skip

OpenDestinations = Callable[[], Collection[bytes]]


class Way(Enum):
    """How payments by contracts are seen."""

    TRACE_BLOCK = "trace_block"
    DEBUG_TRACE = "debug_traceBlockByNumber"
    BALANCES = "balance checks"
    NONE = "nothing"

    @property
    def traces(self) -> bool:
        return self in (Way.TRACE_BLOCK, Way.DEBUG_TRACE)


class InternalPayments:
    """`way` is None for: what the node offers, the best first."""

    def __init__(
        self,
        rpc: EvmRpc,
        native: str,
        *,
        way: Way | None,
        open_destinations: OpenDestinations | None,
        log: Log,
    ) -> None:
        self.way: Way | None = way
        self._rpc = rpc
        self._native = native
        self._chosen = way
        self._open_destinations = open_destinations
        self._log = log
        self._balances: dict[bytes, int] = {}
        self._balances_at: bytes | None = None
        self._failing: tuple[int, float] | None = None
        self._is_patient = True
        self._must_look_after_gap = False
        self._gap: int | None = None
        self._told: set[str] = set()

    async def probe(self) -> Way:
        """Find out what the node offers, anew. Raises what the rpc raises.

        Raises PersistentError when the way that was chosen is not offered.
        """
        if self._chosen is None:
            self.way = await self._best()
        elif self._chosen.traces and not await self._is_offered(self._chosen):
            raise PersistentError(
                f"{self._rpc.where} does not answer {self._chosen.value}, which"
                f" {self._rpc.client.setting}.internal asks for. Set that to auto, or use a node"
                " that traces"
            )
        return await self.ready()

    async def ready(self) -> Way:
        return self.way or await self.probe()

    async def _best(self) -> Way:
        for way in (Way.TRACE_BLOCK, Way.DEBUG_TRACE):
            if await self._is_offered(way):
                return way
        if self._open_destinations is not None:
            return Way.BALANCES
        self._say_once(
            "payments by contracts in the native coin are not seen: the node does not trace",
        )
        return Way.NONE

    async def _is_offered(self, way: Way) -> bool:
        method, params = _trace_call(way, hex((await self._rpc.tip()).height))
        try:
            answer = await self._rpc.client.call(method, *params, timeout_s=PROBE_S)
        except TransientError as error:
            # Also when it takes too long: then it would for every block.
            self._log.debug("node does not trace", method=method, error=str(error))
            return False
        return isinstance(answer, list)

    # --- traces -----------------------------------------------------------------------------------

    def calls(self, height: int) -> list[Call]:
        """What to ask with the block."""
        way = self.way
        return [_trace_call(way, hex(height))] if way is not None and way.traces else []

    def read(
        self, answers: Sequence[object], *, block_hash: str, hashes: Sequence[str], height: int,
        depth: int,
    ) -> Internals:  # fmt: skip
        """What the answers to `calls` say; `depth` is how far below the tip the block is.

        Raises WireError and its kind, and RpcError.
        """
        if not answers or not hashes:
            return {}
        try:
            if isinstance(answers[0], RpcError):
                raise answers[0]
            if self.way is Way.TRACE_BLOCK:
                found = from_trace_block(answers[0], block_hash, hashes)
            else:
                found = from_call_tracer(answers[0], hashes)
        except (RpcError, TraceMissingError) as error:
            self._bear(error, height=height, depth=depth)
            if isinstance(error, RpcError):
                return {}
            return from_call_tracer(answers[0], hashes, tolerant=True)
        self._close_gap()
        return found

    # --- balances ---------------------------------------------------------------------------------

    async def rises(
        self, block: EvmBlock, found: Sequence[ChainTx], *, depth: int
    ) -> ChainTx | None:
        """What contracts paid to open invoices in `block`, beside what was `found` in it.

        Raises OtherBlockError when the chain moves meanwhile, and RpcError.
        """
        if self._open_destinations is None:
            return None
        if self._must_look_after_gap:
            await self._look_after_gap(block, self._open_destinations())
        if self.way is not Way.BALANCES:
            return None
        wanted = list(self._open_destinations())
        if len(wanted) > BALANCES_LIMIT:
            self._say_once(
                "too many open invoices to compare all balances: payments by contracts to the"
                " others are not seen",
                limit=BALANCES_LIMIT,
            )
            wanted = wanted[:BALANCES_LIMIT]
        ref = block.ref
        known = self._balances if self._balances_at == ref.parent else {}
        self._balances = {}
        if not wanted or ref.height == 0:
            return None
        try:
            before, after = await self._compare(block, wanted, known)
        except RpcError as error:
            self._bear(error, height=ref.height, depth=depth)
            return None
        self._close_gap()
        self._balances, self._balances_at = after, ref.hash
        paid = dict.fromkeys(wanted, 0)
        for tx in found:
            for output in tx.outputs:
                if output.asset == self._native and output.destination in paid:
                    paid[output.destination] += output.amount_base
        risen = {
            address: rise
            for address in wanted
            if (rise := after[address] - before[address] - paid[address]) > 0
        }
        return await self._payment(block, risen, before) if risen else None

    async def _compare(
        self, block: EvmBlock, wanted: list[bytes], known: dict[bytes, int]
    ) -> tuple[dict[bytes, int], dict[bytes, int]]:
        rpc, height = self._rpc, block.ref.height
        fresh = [address for address in wanted if address not in known]
        calls = [_balance_call(address, height - 1) for address in fresh]
        calls += [_balance_call(address, height) for address in wanted]
        *answers, header = await rpc.many([*calls, header_call(hex(height))])
        balances = [rpc.as_quantity(rpc.result(answer)) for answer in answers]
        self._check(block, rpc.header_in(header, height))
        before = dict(zip(fresh, balances, strict=False))
        after = dict(zip(wanted, balances[len(fresh) :], strict=True))
        return {**known, **before}, after

    async def _payment(
        self, block: EvmBlock, risen: dict[bytes, int], before: dict[bytes, int]
    ) -> ChainTx:
        rpc, ref = self._rpc, block.ref
        calls: list[Call] = [
            ("eth_getTransactionCount", ("0x" + address.hex(), hex(ref.height - 1)))
            for address in risen
        ]
        *answers, header = await rpc.many([*calls, header_call(hex(ref.height))])
        self._check(block, rpc.header_in(header, ref.height))
        nonces = [rpc.as_quantity(rpc.result(answer)) for answer in answers]
        return ChainTx(
            txid=ref.hash,
            outputs=tuple(
                Output(OutPoint(ref.hash, BALANCE), address, rise, self._native)
                for address, rise in risen.items()
            ),
            spends=tuple(
                address + nonce.to_bytes(8, "big") + before[address].to_bytes(32, "big")
                for address, nonce in zip(risen, nonces, strict=True)
            ),
        )

    def _check(self, block: EvmBlock, header: object) -> None:
        if getattr(header, "hash", None) != block.ref.hash:
            raise OtherBlockError(f"block {block.ref.height} was replaced meanwhile")

    # --- gaps -------------------------------------------------------------------------------------

    def _bear(self, error: RpcError | TraceMissingError, *, height: int, depth: int) -> None:
        """Raise the error, unless the node will never answer better."""
        words = (error.message if isinstance(error, RpcError) else str(error)).lower()
        if isinstance(error, RpcError) and not any(word in words for word in _NO_STATE):
            raise error
        if depth < RECENT_BLOCKS and self._is_patient:
            now = trio.current_time()
            if self._failing is None or self._failing[0] != height:
                self._failing = (height, now)
            if now - self._failing[1] < PATIENCE_S:
                if isinstance(error, RpcError):
                    raise error
                raise TransientError(
                    f"{self._rpc.where} cannot trace block {height} ({error}). It is asked again"
                )
            self._is_patient = False
        if self._gap is None:
            self._gap = height
            self._log.error(
                "payments by contracts are not seen from this block on: the node does not have its"
                " state any more. Compare the addresses of open invoices by hand, or use an archive"
                " node",
                chain=self._rpc.chain,
                height=height,
                error=str(error)[:200],
            )

    def _close_gap(self) -> None:
        self._must_look_after_gap |= self._gap is not None
        self._gap = self._failing = None
        self._is_patient = True

    async def _look_after_gap(self, block: EvmBlock, opened: Collection[bytes]) -> None:
        """Name the open invoices that somebody should look at."""
        self._must_look_after_gap = False
        wanted = list(opened)[:BALANCES_LIMIT]
        calls = [_balance_call(address, block.ref.height) for address in wanted]
        answers = await self._rpc.many(calls)
        holding = [
            "0x" + address.hex()
            for address, answer in zip(wanted, answers, strict=True)
            if not isinstance(answer, RpcError) and self._rpc.as_quantity(answer) > 0
        ]
        if holding:
            self._log.warning(
                "addresses of open invoices that hold coin after blocks without state: compare what"
                " they were credited",
                chain=self._rpc.chain,
                height=block.ref.height,
                addresses=holding[:SHOWN_ADDRESSES],
                more=max(0, len(holding) - SHOWN_ADDRESSES),
            )

    def _say_once(self, event: str, **fields: object) -> None:
        if event not in self._told:
            self._told.add(event)
            self._log.warning(event, chain=self._rpc.chain, **fields)


def _trace_call(way: Way, height: str) -> Call:
    if way is Way.TRACE_BLOCK:
        return ("trace_block", (height,))
    return ("debug_traceBlockByNumber", (height, _TRACER))


def _balance_call(address: bytes, height: int) -> Call:
    return ("eth_getBalance", ("0x" + address.hex(), hex(height)))
