"""Wallet addresses by @ton/ton, pytoniq-core's layouts and bip-utils; the forms of their text."""

import base64
import json
import subprocess

import pytest
from bip_utils import TonAddrEncoder, TonAddrVersions
from hypothesis import given, settings
from hypothesis import strategies as st
from pytoniq_core import Address, Cell
from pytoniq_core.tlb.account import StateInit
from pytoniq_core.tlb.custom.wallet import WalletV4Data, WalletV5R1Data

from daemon.keys import ton_code
from daemon.keys.ton_address import friendly, is_address, parse_address
from daemon.keys.ton_wallet import MAX_NUMBER, NETWORKS, Wallet, wallet_address
from tests.daemon.keys import ton_samples as samples
from tests.nodes.install import DEFAULT_DEST, find, how_to_install
from tests.nodes.npm import find_runtime

KEYS = st.binary(min_size=32, max_size=32)
NUMBERS = st.integers(0, MAX_NUMBER) | st.integers(32_760, 32_775)
CODES = {Wallet.V4R2: ton_code.V4R2, Wallet.V5R1: ton_code.V5R1}


@pytest.mark.parametrize("row", samples.VECTORS["wallets"])
def test_equals_ton_ton(row):
    found = wallet_address(
        bytes.fromhex(row["key"]),
        Wallet(row["wallet"]),
        number=row["number"],
        network=row["network"],
    )
    assert friendly(found, test=row["network"] == "testnet") == row["friendly"]
    assert parse_address(row["raw"]) == parse_address(row["friendly"]) == found


def test_what_ton_ton_says_today_is_what_is_stored():
    library, runtime = find("ton"), find_runtime(DEFAULT_DEST)
    if library is None or runtime is None:
        pytest.skip(how_to_install("ton"))
    done = subprocess.run(
        [runtime.node, samples.SCRIPT],
        env={**runtime.environment(), "NODE_PATH": str(library / "node_modules")},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert json.loads(done.stdout) == samples.VECTORS


@pytest.mark.parametrize("wallet", Wallet)
def test_the_contracts_are_the_published_ones(wallet):
    known = {
        "v4r2": "feb5ff6820e2ff0d9483e7e0d62c817d846789fb4ae580c878866d959dabd5c0",
        "v5r1": "20834b7b72b112147e1b2fb457b84e74d1a30f04f737d4f62a668e9552d2b72f",
    }[wallet]
    assert Cell.one_from_boc(CODES[wallet]).hash.hex() == known
    assert samples.VECTORS["codes"][wallet] == known


@settings(max_examples=50, deadline=None)
@given(key=KEYS, number=NUMBERS, network=st.sampled_from([*NETWORKS]))
def test_equals_the_layouts_of_pytoniq_core(key, number, network):
    data = {
        Wallet.V4R2: WalletV4Data(seqno=0, wallet_id=698983191 + number, public_key=key),
        Wallet.V5R1: WalletV5R1Data(seqno=0, wallet_id=v5_id(number, network), public_key=key),
    }
    for wallet in Wallet:
        state = StateInit(code=Cell.one_from_boc(CODES[wallet]), data=data[wallet].serialize())
        expected = b"\0" + state.serialize().hash
        assert wallet_address(key, wallet, number=number, network=network) == expected


def v5_id(number, network):
    """The wallet id as an unsigned number, bit by bit."""
    bits = f"1{0:08b}{0:08b}{number:015b}" if number < 2**15 else f"0{number:031b}"
    return int(bits, 2) ^ (NETWORKS[network] % 2**32)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([samples.KEY, samples.OTHER]))
def test_the_first_wallets_equal_bip_utils(key):
    for wallet, version in (
        (Wallet.V4R2, TonAddrVersions.V4),
        (Wallet.V5R1, TonAddrVersions.V5R1),
    ):
        own = wallet_address(bytes.fromhex(key), wallet, number=0, network="mainnet")
        assert friendly(own, test=False) == TonAddrEncoder.EncodeKey(
            bytes.fromhex(key), version=version
        )


def test_no_two_wallets_of_a_key_are_one():
    key = bytes.fromhex(samples.KEY)
    numbers = [*range(40), *range(32_760, 32_775), MAX_NUMBER]
    found = {
        wallet_address(key, wallet, number=number, network="mainnet")
        for wallet in Wallet
        for number in numbers
    }
    assert len(found) == 2 * len(numbers)


@pytest.mark.parametrize("number", [-1, MAX_NUMBER + 1])
def test_numbers_that_no_wallet_has(number):
    with pytest.raises(ValueError, match=f"no wallet {number}"):
        wallet_address(bytes(32), Wallet.V4R2, number=number, network="mainnet")


@settings(max_examples=50, deadline=None)
@given(account=KEYS, workchain=st.sampled_from([0, -1]), bounce=st.booleans(), test=st.booleans())
def test_every_form_of_an_address_is_read(account, workchain, bounce, test):
    address = workchain.to_bytes(1, "big", signed=True) + account
    of_library = Address((workchain, account))
    for safe in (True, False):
        text = of_library.to_str(is_bounceable=bounce, is_test_only=test, is_url_safe=safe)
        assert parse_address(text) == address
        assert parse_address(text, network="testnet") == address
        if test:
            with pytest.raises(ValueError, match="marked as an address of a test network"):
                parse_address(text, network="mainnet")
    assert parse_address(of_library.to_str(is_user_friendly=False)) == address
    assert friendly(address, test=test) == of_library.to_str(is_bounceable=False, is_test_only=test)


GOOD = samples.friendly_of("v4r2", "mainnet", 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "48 characters"),
        (GOOD[:-1], "48 characters"),
        (GOOD + "A", "48 characters"),
        (" " + GOOD, "48 characters"),
        ("Ü" * 48, "48 characters"),
        (GOOD[:20] + ("A" if GOOD[20] != "A" else "B") + GOOD[21:], "checksum"),
        ("1:" + "00" * 32, "48 characters"),
        ("0:" + "00" * 31, "48 characters"),
        ("0:" + "0_" * 32, "48 characters"),
    ],
)
def test_what_is_no_address(text, words):
    with pytest.raises(ValueError, match=words):
        parse_address(text)
    assert not is_address(text)


@pytest.mark.parametrize(("tag", "workchain"), [(0x12, 0), (0x11, 1), (0x3E, 0xE6)])
def test_other_things_with_a_right_checksum_are_no_addresses(tag, workchain):
    data = bytes([tag, workchain]) + bytes(32)
    whole = data + crc16(data)
    with pytest.raises(ValueError, match="no kind or workchain"):
        parse_address(base64.urlsafe_b64encode(whole).decode())


def crc16(data):
    """CRC-16/XMODEM, bit by bit."""
    register = 0
    for byte in data:
        register ^= byte << 8
        for _ in range(8):
            register = (register << 1 ^ 0x1021 if register & 0x8000 else register << 1) & 0xFFFF
    return register.to_bytes(2, "big")
