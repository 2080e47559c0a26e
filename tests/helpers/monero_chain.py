"""A chain of some hundred mixed transactions, built by real wallets; about a minute, then cached.

It is what tallyd and a view-only monero-wallet-rpc have to agree on: payments to one and to many,
to subaddresses of two accounts and to the main address, twice to the same in one transaction, with
a payment id, sweeps, the merchant's own spending with change, and coinbases of several outputs.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.monero_coinbase import Payout, mine_paying
from tests.helpers.monero_wallet import MoneroWallet
from tests.helpers.monerod import (
    COIN_BASE,
    COINBASE_LOCK_BLOCKS,
    NOBODY,
    SPENDABLE_AFTER_BLOCKS,
    MoneroNode,
)

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "monero-chain"
REVISION = 1  # raise it when the chain is to be built in another way
MINORS, ACCOUNT_MINORS = 12, 3
_ROUNDS, _PER_ROUND = 12, 11
_WALLETS = 2


@dataclass(frozen=True)
class MixedChain:
    """What was built. ``addresses`` by (major, minor); all of the merchant's are among them."""

    datadir: Path
    address: str
    view_key: bytes
    addresses: dict[tuple[int, int], str]
    tip: str
    transactions: int
    """All but coinbases."""


def mixed_chain(into: Path) -> MixedChain:
    """Return a copy of the chain below ``into``, built first if it is not in the cache."""
    CACHE.mkdir(parents=True, exist_ok=True)
    kept = CACHE / f"revision-{REVISION}"
    with (CACHE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (kept / "about.json").exists():
            shutil.rmtree(kept, ignore_errors=True)
            _build(kept)
        shutil.copytree(kept / "chain", into / "chain")
    about = json.loads((kept / "about.json").read_text())
    return MixedChain(
        into / "chain",
        about["address"],
        bytes.fromhex(about["view_key"]),
        {(major, minor): address for major, minor, address in about["addresses"]},
        about["tip"],
        about["transactions"],
    )


def _build(kept: Path) -> None:
    datadir = kept / "chain"
    with MoneroNode(datadir=datadir, zmq=False) as node, contextlib.ExitStack() as stack:
        merchant, *payers = (stack.enter_context(MoneroWallet(node)) for _ in range(_WALLETS + 1))
        addresses = {(0, minor): merchant.address(0, minor) for minor in range(MINORS)}
        addresses |= {(1, minor): merchant.address(1, minor) for minor in range(ACCOUNT_MINORS)}
        built = _Builder(node, merchant, payers, addresses)
        built.run()
        view_key = merchant.view_key().hex()
        about = {
            "address": addresses[0, 0],
            "view_key": view_key,
            "addresses": [[*index, address] for index, address in addresses.items()],
            "tip": node.tip(),
            "transactions": built.transactions,
        }
    (datadir / "monerod.log").unlink(missing_ok=True)
    (kept / "about.json").write_text(json.dumps(about))


class _Builder:
    def __init__(
        self,
        node: MoneroNode,
        merchant: MoneroWallet,
        payers: Sequence[MoneroWallet],
        addresses: dict[tuple[int, int], str],
    ) -> None:
        self.node = node
        self.merchant = merchant
        self.payers = payers
        self.addresses = addresses
        self.transactions = 0

    def run(self) -> None:
        for payer in self.payers:
            self.node.mine(25, payer.address())
        self.node.mine(28, self.addresses[0, 0])
        self.node.mine(COINBASE_LOCK_BLOCKS)
        with ThreadPoolExecutor() as pool:
            self.transactions += sum(pool.map(self._split, self.payers))
            self.node.mine(SPENDABLE_AFTER_BLOCKS)
            for number in range(_ROUNDS):
                jobs = [pool.submit(self._pay, payer, number) for payer in self.payers]
                jobs.append(pool.submit(self._churn, number))
                self.transactions += sum(job.result() for job in jobs)
                self.node.mine()
                self._mine_to_merchant(number)
        self.node.mine()
        assert not self.node.pool()

    def _split(self, payer: MoneroWallet) -> int:
        """Have enough outputs to spend two in each of a round's transactions."""
        for _ in range(9):
            payer.transfer([(payer.address(), 2 * COIN_BASE)] * 15)
        return 9

    def _pay(self, payer: MoneroWallet, number: int) -> int:
        for step in range(_PER_ROUND):
            payer.transfer(self._destinations(number * _PER_ROUND + step))
        return _PER_ROUND

    def _destinations(self, number: int) -> list[tuple[str, int]]:
        """Of a transaction: every shape comes up once in so many numbers."""
        amount_base = COIN_BASE // 100 + number * 10_007
        minor = 1 + number % (MINORS - 1)
        one, other = self.addresses[0, minor], self.addresses[0, 1 + minor % (MINORS - 1)]
        main, account = self.addresses[0, 0], self.addresses[1, number % ACCOUNT_MINORS]
        shapes = [
            [one],
            [one, other],
            [main],
            [one, NOBODY],
            [NOBODY],
            [account],
            [one, one],
            [main, one, account, NOBODY, other],
            [self._integrated(number)],
            [NOBODY, NOBODY, account],
        ]
        return [(to, amount_base + at) for at, to in enumerate(shapes[number % len(shapes)])]

    def _integrated(self, number: int) -> str:
        made = self.payers[0].rpc(
            "make_integrated_address",
            standard_address=self.addresses[0, 0],
            payment_id=f"{number:016x}",
        )
        return str(made["integrated_address"])

    def _churn(self, number: int) -> int:
        """The merchant spends: to himself, to others with change, and all of one subaddress."""
        if number < 2:
            return 0
        self.merchant.transfer([(self.addresses[0, 1 + number % 5], COIN_BASE)])
        self.merchant.transfer([(NOBODY, COIN_BASE // 7)])
        made = 2
        if number > SPENDABLE_AFTER_BLOCKS // 2 + 1:
            minor = 1 + number % (MINORS - 1)
            made += len(self.merchant.sweep(self.addresses[1, 1], subaddr_indices=[minor]))
        return made

    def _mine_to_merchant(self, number: int) -> None:
        minor = 1 + number % (MINORS - 1)
        mine_paying(
            self.node,
            [
                Payout(self.addresses[0, minor], COIN_BASE + number),
                Payout(NOBODY, COIN_BASE),
                Payout(self.addresses[0, 0], 2 * COIN_BASE + number),
                Payout(self.addresses[1, 1], 3 * COIN_BASE + number),
            ],
        )


@contextlib.contextmanager
def node_of(chain: MixedChain) -> Iterator[MoneroNode]:
    """A node on the chain, with a restricted port as its ``url``."""
    with MoneroNode(datadir=chain.datadir, restricted=True) as node:
        assert node.tip() == chain.tip
        yield node
