"""Real EVM nodes (anvil) with any chain id, for tests and the demo.

Everything blocks: asynchronous code calls it through ``trio.to_thread.run_sync``.
"""

import contextlib
import http.client
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.helpers.evm_abi import address_in, call_data, create_data
from tests.helpers.evm_rpc import EvmRpc, EvmSocket
from tests.helpers.ports import free_port
from tests.helpers.process import ServerError, ServerProcess, wait_until
from tests.helpers.server import Server
from tests.nodes.contracts import contract
from tests.nodes.install import find, how_to_install

COIN_BASE = 10**18  # wei per ether
GWEI_BASE = 10**9
ACCOUNT_BASE = 10**9 * COIN_BASE
"""What each of the node's accounts owns at the start."""

_GAS = 3_000_000  # of calls: enough for all here, so that failing ones need no estimate


class AnvilNode(Server):
    """One node; use as a context manager, or start() and close().

    Without ``block_time_s`` it makes blocks on mine() only: what is paid waits in the mempool.
    ``datadir`` is kept when given and is otherwise temporary. Ports and, after stop(), the chain
    stay the same over restart(); the mempool does not. Amounts are integers in wei, addresses and
    hashes text with 0x.
    """

    PREFIX = "tally-evm-"
    PORT_TAKEN = "in use"

    def __init__(
        self,
        chain_id: int = 31337,
        *,
        block_time_s: float | None = None,
        datadir: Path | None = None,
        extra: Sequence[str] = (),
    ) -> None:
        found = find("evm")
        if found is None:
            raise ServerError(how_to_install("evm"))
        super().__init__(datadir)
        self.chain_id = chain_id
        self.accounts: tuple[str, ...] = ()
        """Addresses that the node signs for: the first pays, the others are for tests."""
        self._program = found
        self._block_time_s = block_time_s
        self._extra = tuple(extra)
        self._choose_ports()

    # --- life ---

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    # --- RPC ---

    def rpc(self, method: str, *params: Any, timeout_s: float = 60.0) -> Any:
        """Call the node; raises RpcError or OSError."""
        return self.client.call(method, *params, timeout_s=timeout_s)

    def socket(self) -> EvmSocket:
        """Return a new websocket connection."""
        return EvmSocket(self.port)

    def height(self) -> int:
        return int(self.rpc("eth_blockNumber"), 16)

    def tip(self) -> str:
        """Return the hash of the last block."""
        return str(self.block("latest")["hash"])

    def block(self, which: int | str, *, full: bool = False) -> dict[str, Any]:
        """Return a block by height, hash or tag, with its transactions whole if ``full``."""
        if isinstance(which, str) and which.startswith("0x"):
            return dict(self.rpc("eth_getBlockByHash", which, full))
        tag = hex(which) if isinstance(which, int) else which
        return dict(self.rpc("eth_getBlockByNumber", tag, full))

    def receipt(self, txid: str) -> dict[str, Any]:
        """Return the receipt of a transaction that is in a block."""
        return dict(self.rpc("eth_getTransactionReceipt", txid))

    def balance(self, address: str) -> int:
        return int(self.rpc("eth_getBalance", address, "latest"), 16)

    def mempool(self) -> list[str]:
        """Return the hashes of what waits, per sender in the order of nonces."""
        pool = self.rpc("txpool_content")
        waiting = [sender for part in ("pending", "queued") for sender in pool[part].values()]
        return [str(one[nonce]["hash"]) for one in waiting for nonce in sorted(one, key=int)]

    # --- transactions ---

    def send(
        self,
        to: str | None,
        *,
        value_base: int = 0,
        data: str = "0x",
        sender: str | None = None,
        **more: int,
    ) -> str:
        """Send one transaction, signed by the node; returns its hash, in the mempool.

        ``more``: nonce, gas, gasPrice and so on, as integers.
        """
        fields: dict[str, Any] = {
            "from": sender or self.accounts[0],
            "value": hex(value_base),
            "data": data,
            **{name: hex(number) for name, number in more.items()},
        }
        if to is not None:
            fields["to"] = to
        return str(self.rpc("eth_sendTransaction", fields))

    def pay(self, address: str, amount_base: int, *, sender: str | None = None) -> str:
        """Send native coin; returns the transaction's hash, in the mempool."""
        return self.send(address, value_base=amount_base, sender=sender)

    def replace(self, txid: str, *, to: str | None = None, amount_base: int | None = None) -> str:
        """Replace a mempool transaction by one with its nonce and twice its fee.

        It pays the same, unless ``to`` or ``amount_base`` say otherwise. Returns the new hash.
        """
        old = self.rpc("eth_getTransactionByHash", txid)
        return self.send(
            to or old["to"],
            value_base=int(old["value"], 16) if amount_base is None else amount_base,
            data=old["input"],
            sender=old["from"],
            nonce=int(old["nonce"], 16),
            gas=int(old["gas"], 16),
            maxFeePerGas=2 * int(old["maxFeePerGas"], 16),
            maxPriorityFeePerGas=2 * int(old["maxPriorityFeePerGas"], 16),
        )

    def drop(self, txid: str) -> None:
        """Have the mempool forget a transaction."""
        self.rpc("anvil_dropTransaction", txid)

    # --- blocks ---

    def hold(self) -> None:
        """Make no blocks but those of mine(), whatever the node was started with."""
        self.rpc("evm_setAutomine", False)
        self.rpc("evm_setIntervalMining", 0)

    def mine(self, blocks: int = 1) -> list[str]:
        """Mine, the mempool into the first block; returns the new blocks' hashes."""
        height = self.height()
        self.rpc("anvil_mine", hex(blocks), timeout_s=600.0)
        calls = [("eth_getBlockByNumber", [hex(height + n + 1), False]) for n in range(blocks)]
        return [str(block["hash"]) for block in self.client.batch(calls)] if calls else []

    def reorg(
        self, depth: int, *, keep: Iterable[str | tuple[str, int]] = (), length: int | None = None
    ) -> tuple[list[str], list[str]]:
        """Displace the last ``depth`` blocks; returns the displaced hashes and the new ones.

        The displaced transactions are gone, also from the mempool, except those in ``keep``:
        a hash, for the first new block, or a hash and the new block's number from 0. ``length``
        of the new branch is by default ``depth + 1``, and at least ``depth``: anvil puts one block
        in each one's place. Both lists ascend.
        """
        kept = [(one, 0) if isinstance(one, str) else one for one in keep]
        raw = [[self.rpc("eth_getRawTransactionByHash", txid), place] for txid, place in kept]
        height = self.height()
        old = [self.block(height - depth + n + 1)["hash"] for n in range(depth)]
        self.rpc("anvil_reorg", depth, raw)
        more = 1 if length is None else length - depth
        assert more >= 0, "a reorg on anvil is never shorter than what it displaces"
        # Not mine(): the mempool's transactions do not belong to the reorg.
        new = [self.block(height - depth + n + 1)["hash"] for n in range(depth)]
        return old, new + self._mine_empty(more)

    def _mine_empty(self, blocks: int) -> list[str]:
        held = [self.rpc("eth_getRawTransactionByHash", txid) for txid in self.mempool()]
        self.rpc("anvil_dropAllTransactions")
        mined = self.mine(blocks) if blocks else []
        for raw in held:
            self.rpc("eth_sendRawTransaction", raw)
        return mined

    # --- contracts ---

    def deploy(self, name: str, *arguments: Any, value_base: int = 0) -> str:
        """Deploy one of tests/nodes/contracts and mine it; returns the contract's address."""
        data = create_data(contract(name), *arguments)
        txid = self.send(None, data=data, value_base=value_base, gas=_GAS)
        self.mine()
        receipt = self.receipt(txid)
        assert receipt["status"] == "0x1", f"{name} was not deployed"
        return str(receipt["contractAddress"])

    def invoke(
        self,
        name: str,
        address: str,
        signature: str,
        *arguments: Any,
        value_base: int = 0,
        sender: str | None = None,
    ) -> str:
        """Send a call of a contract; returns the transaction's hash, in the mempool."""
        data = call_data(contract(name), signature, *arguments)
        return self.send(address, value_base=value_base, data=data, sender=sender, gas=_GAS)

    def ask(self, name: str, address: str, signature: str, *arguments: Any) -> str:
        """Return what a contract answers without a transaction, as hex; raises RpcError."""
        data = call_data(contract(name), signature, *arguments)
        return str(self.rpc("eth_call", {"to": address, "data": data}, "latest"))

    def pay_token(self, token: str, to: str, amount_base: int, *, sender: str | None = None) -> str:
        """Send a token; returns the transaction's hash, in the mempool."""
        signature = "transfer(address,uint256)"
        return self.invoke("Token", token, signature, to, amount_base, sender=sender)

    def token_balance(self, token: str, address: str) -> int:
        return int(self.ask("Token", token, "balanceOf(address)", address), 16)

    def pay_batch(self, payer: str, payouts: Mapping[str, int]) -> str:
        """Pay native coin to many from inside a contract (Payer); returns the hash."""
        to, values = list(payouts), list(payouts.values())
        total_base = sum(values)
        return self.invoke(
            "Payer", payer, "pay(address[],uint256[])", to, values, value_base=total_base
        )

    def pay_token_batch(self, payer: str, token: str, payouts: Mapping[str, int]) -> str:
        """Approve and pay a token to many by transferFrom; returns the second one's hash."""
        to, values = list(payouts), list(payouts.values())
        self.invoke("Token", token, "approve(address,uint256)", payer, sum(values))
        signature = "payTokens(address,address[],uint256[])"
        return self.invoke("Payer", payer, signature, token, to, values)

    # --- inner ---

    def _choose_ports(self) -> None:
        self.port = free_port()
        self.client = EvmRpc(self.port)

    def _start_once(self) -> None:
        log = self.datadir / "output.log"
        log.unlink(missing_ok=True)
        process = ServerProcess([self._program, *self._flags()], log=log)
        self.accounts = tuple(process.wait_ready(self._answers))
        self._process = process

    def _flags(self) -> list[str]:
        mining = ["--no-mining"]
        if self._block_time_s is not None:
            mining = ["--block-time", str(self._block_time_s)]
        return [
            "--host=127.0.0.1",
            f"--port={self.port}",
            f"--chain-id={self.chain_id}",
            f"--balance={ACCOUNT_BASE // COIN_BASE}",
            f"--state={self.datadir / 'state.json'}",
            # Otherwise below the home folder, one file per old block, at 7 ms each.
            f"--cache-path={self.datadir / 'cache'}",
            "--max-persisted-states=0",
            *mining,
            *self._extra,
        ]

    def _answers(self) -> list[str]:
        with contextlib.suppress(OSError, http.client.HTTPException):  # not listening yet
            # Another process may have been faster on that port: it would answer with its chain id.
            if self.rpc("eth_chainId") == hex(self.chain_id):
                return list(self.rpc("eth_accounts"))
        return []


def new_address(number: int) -> str:
    """Return an address that nobody has the key of: the number itself, in 20 bytes."""
    return address_in(hex((0x7A11 << 144) + number))


def wait_for_height(node: AnvilNode, height: int) -> None:
    """Wait for a node that makes blocks by itself."""
    wait_until(lambda: node.height() >= height, f"block {height} is there")
