"""Addresses of the EVM family as text (EIP-55)."""

import pytest
from coincurve import PublicKey

from daemon.keys import evm

# EIP-55's own examples: all capitals, all small, mixed.
EIP55 = [
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0xde709f2102306220921060314715629080e2fb77",
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
]


@pytest.mark.parametrize("text", EIP55)
def test_eip55(text):
    address = evm.parse_address(text)
    assert evm.checksummed(address) == text
    assert evm.parse_address(text.lower()) == evm.parse_address("0x" + text[2:].upper()) == address


def test_wrong_capitals_are_refused():
    with pytest.raises(ValueError, match="EIP-55 checksum"):
        evm.parse_address("0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")


@pytest.mark.parametrize(
    "text", ["", "0x", "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0x" + "1" * 41]
)
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match="40 hexadecimal digits"):
        evm.parse_address(text)


def test_the_address_of_the_secret_one():
    """The well-known account of the private key 1."""
    key = PublicKey.from_secret((1).to_bytes(32, "big"))
    assert evm.checksummed(evm.address_of(key)) == "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
