"""What experience says of a key: where its addresses would not show up in the owner's wallet."""

import math

from daemon.keys.extended import ExtendedKey
from daemon.keys.forms import AddressForm
from daemon.keys.node import HARDENED
from daemon.keys.versions import ScriptHint

_ACCOUNT_DEPTH = 3
_COIN_NAMES = {"BTC": "Bitcoin", "LTC": "Litecoin"}
_COMPARE = (
    "compare with your wallet: it must show the address 0/1, usually as the second receiving "
    "address of the account. The first, 0/0, is never used by tallyd."
)
_FORECAST_INVOICES = 10_000
_FORECAST_RISK = 0.001


def warnings_on(
    key: ExtendedKey, *, coin: str, form: AddressForm, network: str | None
) -> tuple[str, ...]:
    """Reasons to fear that the wallet which gave the key will not show the payments."""
    found = (
        _script_warning(key, form),
        _coin_warning(key, coin),
        _network_warning(key, form, network),
        _depth_warning(key, form),
    )
    return tuple(text for text in found if text)


def notes_on(key: ExtendedKey, *, coin: str, form: AddressForm) -> tuple[str, ...]:
    """What holds for every key of the coin, and what is only good to know of this one."""
    account = form.account_path(test=key.version.test)
    notes = [_COMPARE]
    if form.prefixes and key.version.script is ScriptHint.UNSAID:
        notes.append(
            f"{key.version.prefix} does not say which script type the wallet's account has; make "
            f"sure that it is a native segwit account ({account})."
        )
    if coin == "LTC" and key.version.coin == "Bitcoin":
        notes.append(
            f"{key.version.prefix} is Bitcoin's version, which most Litecoin wallets use too; make "
            f"sure that the key is from the Litecoin account ({account})."
        )
    notes.append(_gap_note() if form.prefixes else _evm_note())
    return tuple(notes)


def gap_limit(*, invoices: int, paid_share: float, risk: float = _FORECAST_RISK) -> int:
    """The gap limit that loses sight of a payment in less than `risk` of such histories.

    Of `invoices` in a row, each is paid independently with probability `paid_share` (0 < p < 1). A
    run of k unpaid ones before a paid one begins at some invoice with probability at most
    invoices * p * (1-p)**k.
    """
    if not 0 < paid_share < 1:
        raise ValueError("paid_share must lie between 0 and 1")
    runs = invoices * paid_share / risk
    return max(1, math.ceil(math.log(max(runs, 1)) / -math.log1p(-paid_share)))


def _script_warning(key: ExtendedKey, form: AddressForm) -> str | None:
    account = form.account_path(test=key.version.test)
    version = key.version
    if not form.prefixes:
        if version.script is ScriptHint.UNSAID:
            return None
        return (
            f"a {version.prefix} is exported by Bitcoin segwit accounts: make sure that you took "
            f"it from the account of this coin ({account})."
        )
    if version.script is ScriptHint.NESTED:
        return (
            f"a wallet that exports {version.prefix} shows {version.script.value} addresses. "
            "tallyd derives native segwit ones from the same key: payments to them will not appear "
            f"in that wallet. Export the key of a native segwit account ({account}) instead."
        )
    if version.script in (ScriptHint.MULTISIG_NESTED, ScriptHint.MULTISIG_NATIVE):
        return (
            f"{version.prefix} is the key of one signer of a {version.script.value} wallet. "
            "Payments to the addresses below would belong to this signer alone and not appear in "
            f"the shared wallet. Use a single-signature native segwit account ({account})."
        )
    return None


def _coin_warning(key: ExtendedKey, coin: str) -> str | None:
    owner = key.version.coin
    # Every coin's wallets use Bitcoin's versions as well.
    if owner in ("Bitcoin", _COIN_NAMES.get(coin)):
        return None
    return (
        f"{key.version.prefix} is {owner}'s version: make sure that you took the key from the "
        f"account of {coin} and that your wallet can spend {coin} below it."
    )


def _network_warning(key: ExtendedKey, form: AddressForm, network: str | None) -> str | None:
    prefix = key.version.prefix
    on_main = network == "main" or not form.prefixes
    if key.version.test and on_main:
        return (
            f"{prefix} is a test network's version: a test wallet will not show payments on the "
            "main network. Export the key again from a wallet on the main network."
        )
    if key.version.test and network is None:
        return (
            f"{prefix} is a test network's version: use it only with a node on a test network. "
            "On the main network that wallet would not show the payments."
        )
    if not key.version.test and network is not None and not on_main:
        return (
            f"{prefix} is a main network's version, and {network} is a test network: fine for "
            "trials, but a wallet for real money should not be mixed with one for tests."
        )
    return None


def _depth_warning(key: ExtendedKey, form: AddressForm) -> str | None:
    account = form.account_path(test=key.version.test)
    if key.depth == _ACCOUNT_DEPTH:
        return None
    if key.depth == 1 and key.child_number == HARDENED and key.version.script is ScriptHint.NATIVE:
        # Electrum's own native segwit seeds keep their addresses at m/0'/0/i.
        return None
    advice = (
        f"Export the key of the account ({account}, depth {_ACCOUNT_DEPTH}), or make sure "
        "that your wallet shows the addresses below."
    )
    if key.depth == 0:
        return (
            "this is a wallet's master key (depth 0): the addresses below are at m/0/1 and so on, "
            f"where most wallets do not look. {advice}"
        )
    if key.depth == _ACCOUNT_DEPTH + 1:
        return (
            "this is a key below an account (depth 4), often that of the receiving addresses. "
            "tallyd goes two levels down from it, a wallet one: the wallet will not show the "
            f"addresses below. {advice}"
        )
    return (
        f"the key is at depth {key.depth}, where wallets do not keep the addresses of an account. "
        f"{advice}"
    )


def _gap_note() -> str:
    limits = [
        f"{gap_limit(invoices=_FORECAST_INVOICES, paid_share=share)} if {words} is paid"
        for share, words in ((0.5, "one in two"), (0.1, "one in ten"), (0.01, "one in a hundred"))
    ]
    return (
        "invoices that nobody pays leave gaps, and a wallet stops looking after its gap limit, "
        "usually 20 unused addresses in a row. What was paid behind a longer gap is yours, but it "
        f"does not show. For {_FORECAST_INVOICES:,} invoices set the gap limit to at least "
        f"{', '.join(limits[:-1])}, {limits[-1]}."
    )


def _evm_note() -> str:
    return (
        "every invoice has an account of its own. Wallets show only the first few accounts of a "
        "key, so plan how you will collect the money: each account must pay its own fee."
    )
