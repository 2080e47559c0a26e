"""Real monerod nodes in regtest mode, for tests and the demo.

Everything blocks: asynchronous code calls it through ``trio.to_thread.run_sync``.
"""

import contextlib
import http.client
import itertools
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.helpers.monero_address import MAINNET, Keys, encode
from tests.helpers.monerod_rpc import MoneroClient
from tests.helpers.ports import free_port
from tests.helpers.process import ServerError, ServerProcess, wait_until
from tests.helpers.server import Server
from tests.nodes.install import find, how_to_install

COIN_BASE = 10**12  # piconero per XMR
COINBASE_LOCK_BLOCKS = 60
SPENDABLE_AFTER_BLOCKS = 10
RING_SIZE = 16

_BASE_POINT = bytes([0x58]) + bytes([0x66]) * 31
NOBODY = encode(Keys(MAINNET, _BASE_POINT, _BASE_POINT))
"""An address that blocks can be mined to without anybody looking on: both keys are G."""


class MoneroNode(Server):
    """One offline node of the network "fakechain"; a context manager, or start() and close().

    ``datadir`` is kept when given and is otherwise temporary. ``url`` is for the daemon under test:
    with ``restricted`` it is a second, restricted RPC port of the same node, which the methods here
    do not use. ``login`` (user, password) asks on both for HTTP Digest. ``zmq`` publishes block and
    pool messages on ``zmq_endpoint``. Ports, login and, whatever ended the node, the chain stay the
    same over restart(). Amounts are integers in base units, hashes hex.
    """

    family = "xmr"
    PREFIX = "tally-xmr-"

    def __init__(
        self,
        *,
        datadir: Path | None = None,
        restricted: bool = False,
        login: tuple[str, str] | None = None,
        zmq: bool = True,
        extra: Sequence[str] = (),
    ) -> None:
        found = find("xmr")
        if found is None:
            raise ServerError(how_to_install("xmr"))
        super().__init__(datadir)
        self.login = login
        self._program = found
        self._is_restricted = restricted
        self.has_zmq = zmq
        self._extra = tuple(extra)
        self._choose_ports()

    # --- life ---

    @property
    def user(self) -> str:
        return "" if self.login is None else self.login[0]

    @property
    def password(self) -> str:
        return "" if self.login is None else self.login[1]

    @property
    def url(self) -> str:
        port = self.restricted_port if self._is_restricted else self.rpc_port
        return f"http://127.0.0.1:{port}"

    @property
    def zmq_endpoint(self) -> str:
        return f"tcp://127.0.0.1:{self.zmq_port}"

    # --- RPC ---

    def rpc(self, method: str, *, timeout_s: float = 60.0, **params: Any) -> Any:
        """Call a JSON-RPC method; returns its result, raises RpcError, HttpError or OSError."""
        return self.client.rpc(method, timeout_s=timeout_s, **params)

    def post(self, path: str, **fields: Any) -> Any:
        """Call one of the other endpoints with JSON, such as ``/get_transactions``."""
        return self.client.post(path, **fields)

    def restricted(self) -> MoneroClient:
        """Return a client of the restricted port; the node must have been made ``restricted``."""
        assert self._is_restricted
        return MoneroClient(self.restricted_port, self.login)

    def height(self) -> int:
        """Return the tip's height: one less than what monerod calls the height of its chain."""
        return int(self.rpc("get_info")["height"]) - 1

    def tip(self) -> str:
        """Return the tip's hash."""
        return str(self.rpc("get_last_block_header")["block_header"]["hash"])

    def block_hash(self, height: int) -> str:
        return str(self.rpc("get_block_header_by_height", height=height)["block_header"]["hash"])

    def block(self, which: int | str) -> dict[str, Any]:
        """Return ``get_block`` by height or hash: block_header, blob, tx_hashes, json."""
        key = "height" if isinstance(which, int) else "hash"
        return dict(self.rpc("get_block", **{key: which}))

    def transaction(self, txid: str) -> dict[str, Any] | None:
        """Return a transaction's entry of ``/get_transactions`` with its JSON, or None."""
        answer = self.post("/get_transactions", txs_hashes=[txid], decode_as_json=True)
        return dict(answer["txs"][0]) if answer.get("txs") else None

    def send_raw(self, blob_hex: str) -> dict[str, Any]:
        """Hand in a transaction; returns the answer, whose ``status`` may be "Failed"."""
        request = json.dumps({"tx_as_hex": blob_hex}).encode()
        return dict(json.loads(self.client.send("/send_raw_transaction", request)[1]))

    def pool(self) -> list[dict[str, Any]]:
        """Return the pool's entries, as ``/get_transaction_pool`` has them."""
        return list(self.post("/get_transaction_pool").get("transactions", []))

    def pool_txids(self) -> set[str]:
        return {str(entry["id_hash"]) for entry in self.pool()}

    def flush_pool(self, *txids: str) -> None:
        """Have the node forget transactions of its pool, all without ``txids``."""
        self.rpc("flush_txpool", txids=list(txids))

    def until_mineable(self, txid: str) -> None:
        """Wait until a block would hold a transaction of the pool.

        The node passes it on first, a moment after it has taken it in; before that it neither mines
        it nor shows it on the restricted port.
        """

        def is_ready() -> bool:
            waiting = self.rpc("get_miner_data").get("tx_backlog", [])
            return any(entry["id"] == txid for entry in waiting)

        wait_until(is_ready, f"{txid} can be mined")

    # --- blocks ---

    def mine(self, blocks: int = 1, address: str | None = None) -> list[str]:
        """Mine, the pool into the first block, about 20 a second; returns the blocks' hashes."""
        if blocks == 0:
            return []
        answer = self.rpc(
            "generateblocks",
            timeout_s=600.0,
            amount_of_blocks=blocks,
            wallet_address=address or NOBODY,
            starting_nonce=next(self._nonces),
        )
        return [str(block) for block in answer["blocks"]]

    def pop(self, blocks: int) -> int:
        """Take the last blocks off, transactions back into the pool; returns the tip's height."""
        return int(self.post("/pop_blocks", nblocks=blocks)["height"]) - 1

    def branch(self, parent: str, blocks: int, address: str | None = None) -> list[str]:
        """Mine on any block; returns the new hashes. The longest branch is the active chain."""
        mined: list[str] = []
        for _ in range(blocks):
            answer = self.rpc(
                "generateblocks",
                amount_of_blocks=1,
                wallet_address=address or NOBODY,
                prev_block=mined[-1] if mined else parent,
                starting_nonce=next(self._nonces),
            )
            mined += [str(block) for block in answer["blocks"]]
        return mined

    def reorg(self, depth: int, *, length: int | None = None) -> tuple[list[str], list[str]]:
        """Displace the last ``depth`` blocks by a longer branch.

        ``length`` is the branch's, by default ``depth + 1``. Returns the displaced hashes and the
        new ones, both ascending.
        """
        height = self.height()
        old = [self.block_hash(height - depth + 1 + n) for n in range(depth)]
        parent = self.block_hash(height - depth)
        return old, self.branch(parent, depth + 1 if length is None else length)

    # --- inner ---

    def _choose_ports(self) -> None:
        self.rpc_port, self.restricted_port, self.p2p_port = free_port(), free_port(), free_port()
        self.zmq_rpc_port, self.zmq_port = free_port(), free_port()
        self.client = MoneroClient(self.rpc_port, self.login)
        # A branch must differ from the block that it displaces, also after a restart.
        self._nonces = itertools.count(secrets.randbelow(2**30))

    def _start_once(self) -> None:
        log = self.datadir / "output.log"
        log.unlink(missing_ok=True)
        process = ServerProcess([self._program, *self._flags()], log=log)
        process.wait_ready(self._answers)
        self._process = process

    def _flags(self) -> list[str]:
        flags = [
            "--regtest",
            "--keep-fakechain",  # else it deletes the chain when it starts
            "--offline",
            "--fixed-difficulty=1",
            "--non-interactive",
            "--disable-rpc-ban",
            "--no-igd",
            "--check-updates=disabled",
            "--disable-dns-checkpoints",
            f"--data-dir={self.datadir}",
            f"--log-file={self.datadir / 'monerod.log'}",
            f"--rpc-bind-port={self.rpc_port}",
            "--rpc-ssl=disabled",
            "--rpc-max-connections-per-private-ip=100",
            "--p2p-bind-ip=127.0.0.1",
            f"--p2p-bind-port={self.p2p_port}",
        ]
        if self._is_restricted:
            flags.append(f"--rpc-restricted-bind-port={self.restricted_port}")
        if self.login is not None:
            # Not in the process list in real life; these are made for a test.
            flags.append(f"--rpc-login={':'.join(self.login)}")
        if self.has_zmq:
            flags += [f"--zmq-rpc-bind-port={self.zmq_rpc_port}", f"--zmq-pub={self.zmq_endpoint}"]
        else:
            flags.append("--no-zmq")
        return [*flags, *self._extra]

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return bool(self.rpc("get_info")["height"])
        return False
