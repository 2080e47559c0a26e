"""What the demo sells: on which chain, for how much, and how customers and miners act there."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from bip_utils import Bip32Slip10Secp256k1

from proto.goipay.crypto.v1 import CoinType
from tests.helpers.anvil import AnvilNode
from tests.helpers.bitcoind import BitcoinNode
from tests.helpers.evm_assets import Token
from tests.helpers.monero_wallet import MoneroWallet
from tests.helpers.monerod import MoneroNode

SUPPLY_BASE = 10**30


@dataclass(frozen=True)
class Ware:
    """One thing with a price, in units of its coin."""

    coin: CoinType
    price: float
    exponent: int
    node: BitcoinNode | AnvilNode | MoneroNode
    """Makes blocks on mine() only, so that payments are seen in its mempool first."""
    send: Callable[[str, int], str]
    """Pays base units to an address."""

    def pay(self, address: str) -> str:
        """What a customer does; returns the transaction."""
        return self.send(address, int(Decimal(str(self.price)).scaleb(self.exponent)))


def account_key() -> str:
    """A fresh account's extended public key."""
    account = Bip32Slip10Secp256k1.FromSeed(secrets.token_bytes(32)).DerivePath("m/84'/1'/0'")
    return str(account.PublicKey().ToExtended())


def bitcoin_ware(coin: CoinType, price: float, node: BitcoinNode) -> Ware:
    return Ware(coin, price, 8, node, node.pay)


def coin_ware(coin: CoinType, price: float, node: AnvilNode) -> Ware:
    return Ware(coin, price, 18, node, node.pay)


def monero_ware(price: float, wallet: MoneroWallet) -> Ware:
    return Ware(CoinType.XMR, price, 12, wallet.node, wallet.pay)


def token_ware(token: Token, price: float, node: AnvilNode) -> Ware:
    def send(address: str, amount_base: int) -> str:
        return node.pay_token(token.contract, address, amount_base)

    return Ware(CoinType[token.asset], price, token.exponent, node, send)


def deploy(node: AnvilNode, asset: str, chain: str, exponent: int) -> Token:
    """A contract on the demo's chain that stands in for the well-known one."""
    contract = node.deploy("Token", exponent, SUPPLY_BASE)
    return Token(asset, chain, contract, exponent, node.chain_id)
