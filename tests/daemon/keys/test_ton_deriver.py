"""What invoices get below a TON key: wallets, or comments."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.core.outcomes import KeyRefused
from actors.ports import Account, Derived, PersistentError, PublicKey
from daemon.keys import Keyring, TonForm, Wallet
from daemon.keys.ton_comment import comment_for
from daemon.keys.ton_deriver import TonDeriver
from tests.daemon.keys import ton_samples as ton
from tests.daemon.keys.samples import BTC, TON, ZPUB
from tests.daemon.keys.ton_samples import KEY
from tests.daemon.keys.vaults import vault_of

ACCOUNT = Account(7, UUID(int=1), "ton", KEY)
SMALL = st.integers(0, 3000)
NUMBER = st.integers(0, 2**40)


def derived(form=None, *, network="mainnet", major=0, minor=1, account=ACCOUNT):
    deriver = TonDeriver({} if form is None else {"ton": form})
    return deriver.derive(TON, account, network=network, major=major, minor=minor)


@pytest.mark.parametrize("network", ["mainnet", "testnet"])
@pytest.mark.parametrize("wallet", Wallet)
@pytest.mark.parametrize("minor", [1, 2, 127, 32767, 32768, 2**31 - 1])
def test_each_invoice_gets_a_wallet(wallet, network, minor):
    row = ton.row_of(wallet, network, minor)
    found = derived(TonForm(wallet=wallet), network=network, minor=minor)
    raw = bytes.fromhex(row["raw"].removeprefix("0:"))
    assert found == Derived(row["friendly"], b"\0" + raw, memo=None)
    assert found.address[:2] == {"mainnet": "UQ", "testnet": "0Q"}[network]


def test_v4r2_wallets_are_the_default():
    assert derived() == derived(TonForm(wallet=Wallet.V4R2, comments=False))
    assert (
        TonDeriver({"other": TonForm(comments=True)}).derive(
            TON, ACCOUNT, network="mainnet", major=0, minor=1
        )
        == derived()
    )


@pytest.mark.parametrize("wallet", Wallet)
def test_or_the_one_wallet_that_apps_show_and_a_comment(wallet):
    form = TonForm(wallet=wallet, comments=True)
    first, second = (derived(form, minor=minor) for minor in (1, 2))
    row = ton.row_of(wallet, "mainnet", 0)
    assert first.address == second.address == row["friendly"]
    assert (first.memo, second.memo) == ("100005740", comment_for(account=7, minor=2))
    raw = b"\0" + bytes.fromhex(row["raw"].removeprefix("0:"))
    assert first.destination == raw + b"\0" + b"100005740"
    assert first.destination != second.destination
    # An invoice with a wallet of its own never has that one: its minor is not 0.
    assert raw not in {derived(TonForm(wallet=wallet), minor=n).destination for n in range(1, 50)}


@pytest.mark.parametrize("comments", [False, True])
def test_what_cannot_be_derived(comments):
    form = TonForm(comments=comments)
    with pytest.raises(
        PersistentError, match=r"network 'mars'; known are mainnet, testnet\. Check"
    ):
        derived(form, network="mars")
    with pytest.raises(PersistentError, match="give a new key"):
        derived(form, major=1)
    with pytest.raises(ValueError, match="there is no wallet"):
        derived(TonForm(), minor=2**31)


def test_through_the_keyring():
    keyring = Keyring(vault_of(), ton={"ton": TonForm(wallet=Wallet.V5R1)})
    key = keyring.parse_key(TON, KEY.upper())
    assert key == PublicKey("ton", KEY, "TON public key, fingerprint 141095f1", None)
    found = keyring.derive(TON, ACCOUNT, network="mainnet", major=0, minor=1)
    assert found.address == ton.friendly_of("v5r1", "mainnet", 1)
    assert isinstance(keyring.parse_key(TON, ZPUB), KeyRefused)
    assert isinstance(keyring.parse_key(BTC, ZPUB), PublicKey)
    assert (
        Keyring(vault_of()).derive(TON, ACCOUNT, network="mainnet", major=0, minor=1) == derived()
    )


# --- comments -------------------------------------------------------------------------------------


@given(st.lists(st.tuples(NUMBER, NUMBER), min_size=2, max_size=2, unique=True))
def test_no_two_invoices_have_one_comment(two):
    (a, b), (c, d) = two
    assert comment_for(account=a, minor=b) != comment_for(account=c, minor=d)


def test_nor_have_any_of_many():
    found = {comment_for(account=a, minor=b) for a in range(100) for b in range(300)}
    assert len(found) == 100 * 300


@given(account=SMALL, minor=SMALL)
def test_comments_are_digits_with_a_checksum(account, minor):
    comment = comment_for(account=account, minor=minor)
    assert comment.isascii()
    assert comment.isdecimal()
    assert 9 <= len(comment) <= 10
    assert comment[0] != "0"
    assert int(comment) % 97 == 1


@given(account=NUMBER, minor=NUMBER, data=st.data())
def test_a_slip_never_makes_the_comment_of_another_invoice(account, minor, data):
    right = comment_for(account=account, minor=minor)
    at = data.draw(st.integers(0, len(right) - 1))
    digit = data.draw(st.sampled_from("0123456789"))
    wrong = right[:at] + digit + right[at + 1 :]
    exchanged = right[:at] + right[at : at + 2][::-1] + right[at + 2 :]
    for slip in (wrong, exchanged):
        assert slip == right or int(slip) % 97 != 1
