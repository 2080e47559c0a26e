"""monero-wallet-rpc as the paying customer, and as the judge of what a view key can see."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers.monero_address import Keys, decode
from tests.helpers.monerod import (
    COIN_BASE,
    COINBASE_LOCK_BLOCKS,
    SPENDABLE_AFTER_BLOCKS,
    MoneroNode,
)
from tests.helpers.monerod_rpc import MoneroClient, RpcError
from tests.helpers.ports import free_port
from tests.helpers.process import ServerError, ServerProcess
from tests.helpers.server import Server
from tests.nodes.install import find, how_to_install

_FIRST = "wallet-1"


@dataclass(frozen=True)
class Sent:
    """A transaction that the wallet has made."""

    txid: str
    fee_base: int
    blob_hex: str
    key_images: tuple[str, ...]


@dataclass(frozen=True)
class Received:
    """An output that a wallet has found. ``index`` is (major, minor); ``one_time_key`` hex."""

    txid: str
    one_time_key: str
    amount_base: int
    index: tuple[int, int]
    height: int | None
    is_spent: bool
    is_unlocked: bool


class MoneroWallet(Server):
    """One monero-wallet-rpc on a node, with one wallet open at a time; a context manager.

    It starts with a new wallet. Wallets are files of ``folder``, which is kept when given and is
    otherwise temporary; in one that was kept, it starts with the first wallet of old. Switching
    between wallets takes about 0.1 s, a process of one's own 0.3 s.
    """

    PREFIX = "tally-xmr-wallet-"
    STOP_GRACE_S = 10.0

    def __init__(self, node: MoneroNode, *, folder: Path | None = None) -> None:
        daemon = find("xmr")
        program = None if daemon is None else daemon.with_name("monero-wallet-rpc")
        if program is None or not program.exists():
            raise ServerError(how_to_install("xmr"))
        super().__init__(folder)
        self.node = node
        self._program = program
        self._made = 0
        self._choose_ports()

    # --- life ---

    def _choose_ports(self) -> None:
        self.port = free_port()
        self.client = MoneroClient(self.port)

    def _start_once(self) -> None:
        process = ServerProcess([self._program, *self._flags()], log=self.datadir / "output.log")
        process.wait_ready(self._answers)
        self._process = process
        if (self.datadir / f"{_FIRST}.keys").exists():
            self.open(_FIRST)
        else:
            self.create()

    def rpc(self, method: str, *, timeout_s: float = 120.0, **params: Any) -> Any:
        """Call the wallet; raises RpcError, HttpError or OSError."""
        return self.client.rpc(method, timeout_s=timeout_s, **params)

    # --- wallets ---

    def create(self) -> str:
        """Make and open a new wallet; returns its name, for open()."""
        name = self._next_name()
        self.rpc("create_wallet", filename=name, language="English")
        return name

    def open(self, name: str) -> None:
        """Close the open wallet, and open another one."""
        self.rpc("open_wallet", filename=name)

    def restore_view_only(self, address: str, view_key: bytes, *, from_height: int = 0) -> str:
        """Make and open a wallet that can see but not spend; returns its name."""
        return self._restore(address=address, viewkey=view_key.hex(), restore_height=from_height)

    def restore(
        self, address: str, *, view_key: bytes, spend_key: bytes, from_height: int = 0
    ) -> str:
        """Make and open a whole wallet out of its private keys; returns its name."""
        return self._restore(
            address=address,
            viewkey=view_key.hex(),
            spendkey=spend_key.hex(),
            restore_height=from_height,
        )

    def view_key(self) -> bytes:
        """Return the open wallet's private view key."""
        return bytes.fromhex(self.rpc("query_key", key_type="view_key")["key"])

    def spend_key(self) -> bytes:
        """Return the open wallet's private spend key."""
        return bytes.fromhex(self.rpc("query_key", key_type="spend_key")["key"])

    def public_keys(self) -> Keys:
        """Return the public spend and view key of the open wallet's main address."""
        return decode(self.address())

    def address(self, major: int = 0, minor: int = 0) -> str:
        """Return an address of the open wallet; (0, 0) is its main one. Makes what is missing."""
        while True:
            try:
                found = self.rpc("get_address", account_index=major, address_index=[minor])
                return str(found["addresses"][0]["address"])
            except RpcError as error:
                if "account" in error.message.lower():
                    self.rpc("create_account")
                    continue
                known = len(self.rpc("get_address", account_index=major)["addresses"])
                self.rpc("create_address", account_index=major, count=minor + 1 - known)

    # --- money ---

    def fund(self, coinbases: int = 30) -> None:
        """Have money; unless there is, mines so many coinbases and 60 blocks more (3 to 10 s)."""
        self.refresh()
        if self.balance(unlocked=True):
            return
        self.node.mine(coinbases, self.address())
        self.node.mine(COINBASE_LOCK_BLOCKS)
        self.refresh()

    def refresh(self) -> None:
        """Catch up with the node, reorgs included."""
        self.rpc("refresh")

    def settle(self) -> None:
        """Empty the node's pool, and take from the chain alone what is spent.

        A wallet remembers as spent what it sent and as unspent what was relayed past it, also when
        a pool was flushed or a block displaced meanwhile.
        """
        if self.node.pool_txids():
            self.node.flush_pool()
        self.refresh()
        self.rpc("rescan_spent")
        if self.balance(unlocked=True) < 20 * COIN_BASE:
            self.node.mine(SPENDABLE_AFTER_BLOCKS)
            self.refresh()

    def balance(self, *, unlocked: bool = False) -> int:
        """Return what all of account 0 holds."""
        return int(self.rpc("get_balance")["unlocked_balance" if unlocked else "balance"])

    def transfer(
        self,
        payouts: Mapping[str, int] | Sequence[tuple[str, int]],
        *,
        relay: bool = True,
        priority: int = 0,
        **more: Any,
    ) -> Sent:
        """Pay from the open wallet in one transaction; without ``relay`` it is only made.

        ``more``: unlock_time, account_index, subaddr_indices and so on, as the RPC has them.
        """
        self.refresh()  # it may have been reorganised, or another process may have spent
        pairs = payouts.items() if isinstance(payouts, Mapping) else payouts
        made = self.rpc(
            "transfer",
            destinations=[{"address": address, "amount": base} for address, base in pairs],
            priority=priority,
            do_not_relay=not relay,
            get_tx_hex=True,
            **more,
        )
        if relay:
            self.node.until_mineable(made["tx_hash"])
        return Sent(made["tx_hash"], made["fee"], made["tx_blob"], _key_images(made))

    def pay(self, address: str, amount_base: int) -> str:
        """Pay one address; returns the txid, in the pool."""
        return self.transfer({address: amount_base}).txid

    def sweep(self, address: str, *, relay: bool = True, **more: Any) -> list[Sent]:
        """Send all that is spendable to one address, in as many transactions as it takes.

        Without ``subaddr_indices`` or ``subaddr_indices_all`` the wallet picks one subaddress.
        """
        self.refresh()
        made = self.rpc(
            "sweep_all", address=address, do_not_relay=not relay, get_tx_hex=True, **more
        )
        for txid in made["tx_hash_list"] if relay else ():
            self.node.until_mineable(txid)
        return _many(made)

    def sweep_output(self, key_image: str, address: str, *, relay: bool = True) -> Sent:
        """Send one whole output to an address."""
        self.refresh()
        made = self.rpc(
            "sweep_single",
            key_image=key_image,
            address=address,
            do_not_relay=not relay,
            get_tx_hex=True,
        )
        if relay:
            self.node.until_mineable(made["tx_hash"])
        return Sent(made["tx_hash"], made["fee"], made["tx_blob"], _key_images(made))

    def relay(self, sent: Sent) -> None:
        """Put a transaction that was only made into the node's pool; raises if it is refused."""
        answer = self.node.send_raw(sent.blob_hex)
        if answer["status"] != "OK":
            raise RpcError(None, str(answer.get("reason") or answer))
        self.node.until_mineable(sent.txid)

    def received(self) -> list[Received]:
        """Return every output in blocks that the open wallet has found, of all accounts."""
        accounts = self.rpc("get_accounts")["subaddress_accounts"]
        found = []
        for account in accounts:
            answer = self.rpc(
                "incoming_transfers", transfer_type="all", account_index=account["account_index"]
            )
            found += [_received(entry) for entry in answer.get("transfers", [])]
        return found

    # --- inner ---

    def _restore(self, **fields: Any) -> str:
        name = self._next_name()
        self.rpc("generate_from_keys", filename=name, password="", **fields)
        return name

    def _next_name(self) -> str:
        self._made += 1
        return f"wallet-{self._made}"

    def _flags(self) -> list[str]:
        flags = [
            f"--rpc-bind-port={self.port}",
            "--disable-rpc-login",
            "--rpc-ssl=disabled",
            "--rpc-max-connections-per-private-ip=100",
            f"--wallet-dir={self.datadir}",
            f"--shared-ringdb-dir={self.datadir / 'rings'}",
            f"--log-file={self.datadir / 'wallet.log'}",
            f"--daemon-address=127.0.0.1:{self.node.rpc_port}",
            "--daemon-ssl=disabled",
            "--trusted-daemon",
            "--allow-mismatched-daemon-version",
            "--no-dns",
            "--non-interactive",
        ]
        if self.node.login is not None:
            flags.append(f"--daemon-login={':'.join(self.node.login)}")
        return flags

    def _answers(self) -> bool:
        try:
            return bool(self.rpc("get_version"))
        except OSError:
            return False


def _many(made: Mapping[str, Any]) -> list[Sent]:
    return [
        Sent(txid, fee, blob, tuple(images["key_images"]))
        for txid, fee, blob, images in zip(
            made["tx_hash_list"],
            made["fee_list"],
            made["tx_blob_list"],
            made["spent_key_images_list"],
            strict=True,
        )
    ]


def _key_images(made: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(made["spent_key_images"]["key_images"])


def _received(entry: Mapping[str, Any]) -> Received:
    index = entry["subaddr_index"]
    return Received(
        txid=entry["tx_hash"],
        one_time_key=entry["pubkey"],
        amount_base=entry["amount"],
        index=(index["major"], index["minor"]),
        height=entry.get("block_height") or None,
        is_spent=entry["spent"],
        is_unlocked=entry["unlocked"],
    )
