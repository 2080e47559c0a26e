"""Real bitcoind (Knots) and litecoind nodes on regtest, for tests and the demo.

Everything blocks: asynchronous code calls it through ``trio.to_thread.run_sync``.
"""

import contextlib
import http.client
import secrets
import signal
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from tests.helpers.bitcoin_rpc import HttpError, RpcClient, RpcError
from tests.helpers.ports import free_port
from tests.helpers.process import ServerError, ServerProcess, wait_until
from tests.helpers.server import Server
from tests.nodes.install import find, how_to_install

Family = Literal["btc", "ltc"]

COIN_BASE = 100_000_000  # satoshi per BTC, litoshi per LTC
MATURITY_BLOCKS = 100
PIECES_PER_COINBASE = 25
SPLIT_DEPTH = 6
MWEB_HEIGHT = 432  # regtest; this block cannot be mined without a pending peg-in
ALL_TOPICS = ("rawtx", "rawblock", "hashtx", "hashblock", "sequence")
_WALLET = "tests"
_STOP_GRACE_S = {"btc": 20.0, "ltc": 4.0}


class BitcoinNode(Server):
    """One regtest node and its wallet; use as a context manager, or start() and close().

    ``datadir`` is kept when given and is otherwise temporary. ``zmq`` names the topics to publish,
    all on one endpoint (``zmq_endpoint``); Litecoin takes the setting and ignores it, because
    Debian builds it without ZMQ. ``auth`` "password" uses ``user`` and ``password``, "cookie" the
    file ``cookie_file``. Ports, credentials and wallet stay the same over restart(). Amounts are
    integers in base units.
    """

    PREFIX = "tally-bitcoin-"

    def __init__(
        self,
        family: Family,
        *,
        datadir: Path | None = None,
        program: Path | None = None,
        auth: Literal["password", "cookie"] = "password",
        zmq: Sequence[str] = ALL_TOPICS,
        extra: Sequence[str] = (),
    ) -> None:
        found = program or find(family)
        if found is None:
            raise ServerError(how_to_install(family))
        super().__init__(datadir)
        self.family = family
        self.auth = auth
        self.user = "tests"
        self.password = secrets.token_hex(16)
        self._program = found
        self._topics = tuple(zmq)
        self._extra = tuple(extra)
        self._mining_address: str | None = None
        self._choose_ports()

    # --- life ---

    def stop(self) -> None:
        """Stop in order; chain, wallet and mempool are on disk afterwards.

        Litecoin waits 30 s for idle HTTP connections before it flushes, so it is made to flush
        first and is killed if it does not end soon.
        """
        process = self._process
        if process is None:
            return
        request: signal.Signals | None = signal.SIGTERM
        with contextlib.suppress(OSError, http.client.HTTPException, RpcError, HttpError):
            self.rpc("gettxoutsetinfo")  # writes the chain state to disk as a side effect
            self.rpc("savemempool")
            self.rpc("stop")
            request = None
        process.stop(request=request, grace_s=_STOP_GRACE_S[self.family])
        self._process = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.rpc_port}"

    @property
    def cookie_file(self) -> Path:
        return self.datadir / "regtest" / ".cookie"

    @property
    def zmq_endpoint(self) -> str:
        return f"tcp://127.0.0.1:{self.zmq_port}"

    @property
    def p2p_address(self) -> str:
        return f"127.0.0.1:{self.p2p_port}"

    # --- RPC ---

    def rpc(self, method: str, *params: Any, timeout_s: float = 60.0) -> Any:
        """Call the node; raises RpcError, HttpError or OSError. Fractions come as Decimal."""
        return self.client.call(method, *params, timeout_s=timeout_s)

    def height(self) -> int:
        return int(self.rpc("getblockcount"))

    def tip(self) -> str:
        return str(self.rpc("getbestblockhash"))

    def mempool(self) -> list[str]:
        return list(self.rpc("getrawmempool"))

    # --- wallet and blocks ---

    def fund(self, coinbases: int = 10) -> None:
        """Have a wallet with as many spendable coinbases of 50 coins; once per folder.

        Of more than six, the oldest are split into many coins: a transaction that a reorg drops
        keeps its inputs and its change from being spent (the wallet does not give it up), and with
        them all that stands on it. The split lies deeper than tests reorganise.
        """
        self._open_wallet()
        if self.rpc("getbalance"):
            return
        self.mine(coinbases)
        # To nobody: with the wallet looking on, mining takes ten times as long.
        self.rpc("generatetodescriptor", MATURITY_BLOCKS - SPLIT_DEPTH, "raw(51)")
        if coinbases > SPLIT_DEPTH:
            pieces = (coinbases - SPLIT_DEPTH) * PIECES_PER_COINBASE
            piece = coins(50 * COIN_BASE // PIECES_PER_COINBASE)
            addresses = [self.new_address() for _ in range(pieces)]
            self.rpc("sendmany", "", dict.fromkeys(addresses, piece), 1, "", [addresses[0]])
        self.rpc("generatetodescriptor", SPLIT_DEPTH, "raw(51)")

    def new_address(self, kind: str = "bech32") -> str:
        """Return a fresh address of the wallet: legacy, p2sh-segwit, bech32, bech32m or mweb."""
        self._open_wallet()
        return str(self.rpc("getnewaddress", "", kind))

    def pay(self, address: str, amount_base: int) -> str:
        """Send from the wallet, replaceable (BIP 125); returns the txid, in the mempool."""
        txid = str(self.rpc("sendtoaddress", address, coins(amount_base)))
        if txid not in self.mempool():
            # The wallet keeps what its own node refuses, and says nothing.
            raw = self.rpc("gettransaction", txid)["hex"]
            raise ServerError(
                f"the node refused {txid} of its own wallet at height {self.height()}:"
                f" {self.rpc('testmempoolaccept', [raw])} {raw}"
            )
        return txid

    def mine(self, blocks: int = 1) -> list[str]:
        """Mine with what the mempool holds; returns the new blocks' hashes."""
        self._check_mweb(blocks)
        if self._mining_address is None:
            self._mining_address = self.new_address()
        return list(self.rpc("generatetoaddress", blocks, self._mining_address))

    def mine_empty(self, blocks: int = 1) -> list[str]:
        """Mine blocks with a coinbase only; the mempool stays as it is."""
        self._check_mweb(blocks)
        # A fresh address, so that a fork block never equals the block it displaces.
        address = self.new_address()
        if self.family == "ltc" and self.height() >= MWEB_HEIGHT - 1:
            with self._unwanted_mempool():
                return list(self.rpc("generatetoaddress", blocks, address))
        return [str(self.rpc("generateblock", address, [])["hash"]) for _ in range(blocks)]

    def replace(
        self,
        txid: str,
        *,
        outputs: Mapping[str, int] | None = None,
        extra_fee_base: int = 20_000,
    ) -> str:
        """Replace the wallet's mempool transaction by one with a higher fee; returns its txid.

        The replacement spends the same inputs. Without ``outputs`` it pays the same and takes the
        fee from the change (a bump); with ``outputs`` (address → base units, may be empty) it pays
        these instead and the rest goes back to the wallet (a double-spend).
        """
        old = self.rpc("getrawtransaction", txid, True)
        fee_base = base_units(self.rpc("getmempoolentry", txid)["fees"]["base"])
        paid = {_address(out): base_units(out["value"]) for out in old["vout"]}
        total_base = sum(paid.values()) + fee_base
        if outputs is None:
            change = [a for a in paid if self.rpc("getaddressinfo", a).get("ischange")]
            if not change:
                raise ValueError(f"{txid} has no change output to take a higher fee from")
            new = {address: base for address, base in paid.items() if address != change[0]}
            rest_address = change[0]
        else:
            new = dict(outputs)
            rest_address = self.new_address()
        new[rest_address] = total_base - fee_base - extra_fee_base - sum(new.values())
        inputs = [{"txid": vin["txid"], "vout": vin["vout"]} for vin in old["vin"]]
        pays = {address: coins(base) for address, base in new.items()}
        # Replaceable again: Litecoin 0.21 knows no full RBF, and its default is not to be.
        raw = self.rpc("createrawtransaction", inputs, pays, 0, True)
        signed = self.rpc("signrawtransactionwithwallet", raw)
        assert signed["complete"]
        return str(self.rpc("sendrawtransaction", signed["hex"], 0))

    def reorg(self, depth: int, *, length: int | None = None) -> tuple[list[str], list[str]]:
        """Displace the last ``depth`` blocks by a longer fork of empty blocks.

        ``length`` is the fork's, by default ``depth + 1``. Transactions of the displaced blocks are
        in the mempool afterwards, but those go from it that a wallet has dated by a height that is
        gone (``nLockTime``, against fee sniping). Returns the displaced hashes and the new ones,
        both ascending.
        """
        height = self.height()
        old = [str(self.rpc("getblockhash", h)) for h in range(height - depth + 1, height + 1)]
        banned = []
        while self.height() > height - depth:
            # More than once where an earlier reorg left another branch to fall back on.
            banned.append(self.rpc("getblockhash", height - depth + 1))
            self.rpc("invalidateblock", banned[-1])
        new = self.mine_empty(depth + 1 if length is None else length)
        if len(new) > depth:
            # Lift the ban: otherwise the node would refuse what others build on the old blocks.
            for block_hash in banned:
                self.rpc("reconsiderblock", block_hash)
        return old, new

    def activate_mweb(self) -> str:
        """Bring a Litecoin chain past MWEB's activation; returns the peg-in's txid."""
        self.fund()
        missing = MWEB_HEIGHT - 1 - self.height()
        assert missing >= 0, "MWEB is already active"
        if missing:
            self.mine(missing)
        peg_in = self.pay(self.new_address("mweb"), 10 * COIN_BASE)
        self.mine()
        return peg_in

    # --- inner ---

    def _check_mweb(self, blocks: int) -> None:
        if self.family == "btc":
            return
        height = self.height()
        if height < MWEB_HEIGHT <= height + blocks and not self.mempool():
            raise ValueError(
                f"{blocks} blocks on {height} would pass {MWEB_HEIGHT}, where Litecoin's regtest "
                "needs a pending peg-in: use a fresh node, or activate_mweb() first"
            )

    @contextlib.contextmanager
    def _unwanted_mempool(self) -> Iterator[None]:
        """Keep what is in the mempool out of new blocks: `generateblock` cannot add a HogEx."""
        held = self.mempool()
        for txid in held:
            self.rpc("prioritisetransaction", txid, 0, -COIN_BASE)
        try:
            yield
        finally:
            for txid in held:
                self.rpc("prioritisetransaction", txid, 0, COIN_BASE)

    def _choose_ports(self) -> None:
        self.rpc_port, self.p2p_port, self.zmq_port = free_port(), free_port(), free_port()
        self.client = RpcClient(self.rpc_port, self._credentials)

    def _credentials(self) -> str:
        if self.auth == "cookie":
            return self.cookie_file.read_text()
        return f"{self.user}:{self.password}"

    def _start_once(self) -> None:
        name = "bitcoin.conf" if self.family == "btc" else "litecoin.conf"
        lines = [f"rpcuser={self.user}", f"rpcpassword={self.password}"]
        config = self.datadir / name
        config.touch(mode=0o600)
        config.write_text("\n".join(lines if self.auth == "password" else []) + "\n")
        log = self.datadir / "output.log"
        log.unlink(missing_ok=True)
        process = ServerProcess([self._program, *self._flags()], log=log)
        process.wait_ready(self._answers)
        self._process = process
        if (self.datadir / "regtest" / "wallets" / _WALLET).exists():
            self._open_wallet()

    def _flags(self) -> list[str]:
        flags = [
            "-regtest",
            f"-datadir={self.datadir}",
            "-server",
            f"-rpcport={self.rpc_port}",
            "-rpcbind=127.0.0.1",
            "-rpcallowip=127.0.0.1",
            f"-port={self.p2p_port}",
            "-bind=127.0.0.1",
            "-connect=0",
            "-dnsseed=0",
            "-listenonion=0",
            "-discover=0",
            "-fallbackfee=0.0002",
            "-walletrbf=1",
            "-keypool=50",  # the default of 1000 makes wallets slow to create
            "-rpcthreads=16",  # each long-poll of a daemon holds one, and the default is 4
            "-rpcworkqueue=64",
            "-printtoconsole=0",
        ]
        if self.family == "ltc":
            flags.append("-mempoolreplacement=1")
        else:
            # Knots takes nLockTime 21 for CAT-21's mark, also of its own wallet, which dates one
            # transaction in ten by one of the last 100 heights (against fee sniping).
            flags.append("-rejectparasites=0")
        flags += [f"-zmqpub{topic}={self.zmq_endpoint}" for topic in self._topics]
        return [*flags, *self._extra]

    def _answers(self) -> bool:
        try:
            self.rpc("getblockchaininfo")
        except (OSError, http.client.HTTPException):
            return False  # not listening yet, or the cookie is not written yet
        except RpcError as error:
            if error.code != -28:  # warming up
                raise
            return False
        return True

    def _open_wallet(self) -> None:
        if self.rpc("listwallets"):
            return
        if (self.datadir / "regtest" / "wallets" / _WALLET).exists():
            self.rpc("loadwallet", _WALLET)
        else:
            self.rpc("createwallet", _WALLET)


def connect(node: BitcoinNode, other: BitcoinNode) -> None:
    """Let two nodes speak with each other, and wait until they agree on the tip."""
    for each in (node, other):
        each.rpc("setnetworkactive", True)
    node.rpc("addnode", other.p2p_address, "onetry")
    wait_until(lambda: node.tip() == other.tip(), "both nodes have the same tip")


def split(node: BitcoinNode, other: BitcoinNode) -> None:
    """Cut two nodes off from each other; connect() heals it and the longer chain wins."""
    for each in (node, other):
        each.rpc("setnetworkactive", False)
    wait_until(
        lambda: not (node.rpc("getconnectioncount") or other.rpc("getconnectioncount")),
        "the nodes have no peers",
    )


def coins(amount_base: int) -> str:
    """Write base units the way the nodes' RPC takes an amount."""
    return f"{amount_base // COIN_BASE}.{amount_base % COIN_BASE:08d}"


def base_units(amount: Decimal | int) -> int:
    """Read an amount of the nodes' RPC as base units."""
    return int(Decimal(amount) * COIN_BASE)


def _address(output: Mapping[str, Any]) -> str:
    script = output["scriptPubKey"]
    return str(script.get("address") or script["addresses"][0])  # the latter is Litecoin 0.21's
