"""Addresses: published vectors, an independent implementation, and bip-utils' own slow way."""

from uuid import UUID

import pytest
from bip_utils import Bip32KeyNetVersions, Bip32Slip10Secp256k1, EthAddrEncoder, P2WPKHAddrEncoder
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.core.outcomes import KeyRefused
from actors.ports import Account, PersistentError, PublicKey
from daemon.keys import Deriver, extended
from daemon.keys.forms import form_for
from daemon.keys.versions import PUBLIC, VERSIONS, XPUB
from tests.daemon.keys import reference, samples
from tests.daemon.keys.samples import BNB, BTC, ETH, LTC, XMR

INDEX = st.integers(0, 2**31 - 1)
SECRET = st.integers(1, reference.N - 1)
HRPS = {
    (BTC, "main"): "bc",
    (BTC, "test"): "tb",
    (BTC, "testnet4"): "tb",
    (BTC, "signet"): "tb",
    (BTC, "regtest"): "bcrt",
    (LTC, "main"): "ltc",
    (LTC, "test"): "tltc",
    (LTC, "regtest"): "rltc",
}


def parsed(chain, text):
    key = Deriver().parse_key(chain, text)
    assert isinstance(key, PublicKey), key
    return key


def account_of(key):
    return Account(1, UUID(int=1), "btc", key)


def address(chain, text, *, network, major=0, minor=1):
    key = parsed(chain, text).canonical
    return (
        Deriver().derive(chain, account_of(key), network=network, major=major, minor=minor).address
    )


def serialised(*, version=XPUB, depth=3, parent=b"\1\2\3\4", number=2**31, chain_code, point):
    head = version.public + bytes([depth]) + parent + number.to_bytes(4, "big")
    return reference.base58check_encode(head + chain_code + reference.compress(point))


@pytest.mark.parametrize(
    ("chain", "network", "key", "expected"),
    [
        (BTC, "signet", samples.GOIPAY_BTC, "tb1qqdcfs9s5gjsnmazcsqfe2h6gwzwdu2eufesk8h"),
        (ETH, "1", samples.GOIPAY_EVM, "0x52bDE05866773a211aB01BbaEa9C474B9f24754D"),
        (BNB, "56", samples.GOIPAY_EVM, "0x52bDE05866773a211aB01BbaEa9C474B9f24754D"),
        (LTC, "main", samples.GOIPAY_LTC, "ltc1quc3y9flfnhd9zeg5dm5h4ckzz040ykk495rstl"),
    ],
)
def test_goipay_vectors(chain, network, key, expected):
    assert address(chain, key, network=network) == expected


@pytest.mark.parametrize(
    ("major", "minor", "expected"),
    [
        (0, 0, "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu"),
        (0, 1, "bc1qnjg0jd8228aq7egyzacy8cys3knf9xvrerkf9g"),
        (1, 0, "bc1q8c6fshw2dlwun7ekn9qwf37cu2rn755upcp6el"),
    ],
)
def test_bip84_vectors(major, minor, expected):
    assert address(BTC, samples.ZPUB, network="main", major=major, minor=minor) == expected


# BIP-32, test vectors 1 and 2: parent, child number, child (the public derivations among them).
BIP32_PUBLIC = [
    (
        (
            "xpub68Gmy5EdvgibQVfPdqkBBCHxA5htiqg55crXYuXoQRKfDBFA1WEjWgP6LHhwBZeNK1VTsfTFUHCdrfp1bgwQ9"
            "xv5ski8PX9rL2dZXvgGDnw"
        ),
        1,
        (
            "xpub6ASuArnXKPbfEwhqN6e3mwBcDTgzisQN1wXN9BJcM47sSikHjJf3UFHKkNAWbWMiGj7Wf5uMash7SyYq527Hq"
            "ck2AxYysAA7xmALppuCkwQ"
        ),
    ),
    (
        (
            "xpub6D4BDPcP2GT577Vvch3R8wDkScZWzQzMMUm3PWbmWvVJrZwQY4VUNgqFJPMM3No2dFDFGTsxxpG5uJh7n7epu"
            "4trkrX7x7DogT5Uv6fcLW5"
        ),
        2,
        (
            "xpub6FHa3pjLCk84BayeJxFW2SP4XRrFd1JYnxeLeU8EqN3vDfZmbqBqaGJAyiLjTAwm6ZLRQUMv1ZACTj37sR62c"
            "fN7fe5JnJ7dh8zL4fiyLHV"
        ),
    ),
    (
        (
            "xpub6FHa3pjLCk84BayeJxFW2SP4XRrFd1JYnxeLeU8EqN3vDfZmbqBqaGJAyiLjTAwm6ZLRQUMv1ZACTj37sR62c"
            "fN7fe5JnJ7dh8zL4fiyLHV"
        ),
        1000000000,
        (
            "xpub6H1LXWLaKsWFhvm6RVpEL9P4KfRZSW7abD2ttkWP3SSQvnyA8FSVqNTEcYFgJS2UaFcxupHiYkro49S8yGasT"
            "vXEYBVPamhGW6cFJodrTHy"
        ),
    ),
    (
        (
            "xpub661MyMwAqRbcFW31YEwpkMuc5THy2PSt5bDMsktWQcFF8syAmRUapSCGu8ED9W6oDMSgv6Zz8idoc4a6mr8BD"
            "zTJY47LJhkJ8UB7WEGuduB"
        ),
        0,
        (
            "xpub69H7F5d8KSRgmmdJg2KhpAK8SR3DjMwAdkxj3ZuxV27CprR9LgpeyGmXUbC6wb7ERfvrnKZjXoUmmDznezpbZ"
            "b7ap6r1D3tgFxHmwMkQTPH"
        ),
    ),
    (
        (
            "xpub6ASAVgeehLbnwdqV6UKMHVzgqAG8Gr6riv3Fxxpj8ksbH9ebxaEyBLZ85ySDhKiLDBrQSARLq1uNRts8RuJiH"
            "jaDMBU4Zn9h8LZNnBC5y4a"
        ),
        1,
        (
            "xpub6DF8uhdarytz3FWdA8TvFSvvAh8dP3283MY7p2V4SeE2wyWmG5mg5EwVvmdMVCQcoNJxGoWaU9DCWh89LojfZ"
            "537wTfunKau47EL2dhHKon"
        ),
    ),
]


@pytest.mark.parametrize(("parent", "number", "child"), BIP32_PUBLIC)
def test_bip32_vectors(parent, number, child):
    below = extended.parse(child)
    assert below is not None
    above = extended.parse(parent)
    assert above is not None
    assert above.node().child_key(number).format() == below.point
    # The chain code of the child shows in its own children.
    assert above.node().child(number).child_key(7).format() == below.node().child_key(7).format()
    assert (below.child_number, below.parent_fingerprint) == (number, above.fingerprint)


@settings(max_examples=25, deadline=None)
@given(secret=SECRET, chain_code=st.binary(min_size=32, max_size=32), major=INDEX, minor=INDEX)
def test_equals_an_implementation_by_hand(secret, chain_code, major, minor):
    text = serialised(chain_code=chain_code, point=reference.multiply(reference.G, secret))
    point = reference.public_key(text, (major, minor))
    key_hash = reference.hash160(reference.compress(point))
    deriver = Deriver()
    for (chain, network), hrp in HRPS.items():
        key = parsed(chain, text).canonical
        found = deriver.derive(chain, account_of(key), network=network, major=major, minor=minor)
        assert found.address == reference.p2wpkh_address(hrp, key_hash)
        assert found.destination == b"\x00\x14" + key_hash
    found = deriver.derive(ETH, account_of(key), network="1", major=major, minor=minor)
    assert found.address == reference.evm_address(point)
    assert found.destination.hex() == found.address[2:].lower()


@settings(max_examples=50, deadline=None)
@given(
    secret=SECRET,
    chain_code=st.binary(min_size=32, max_size=32),
    version=st.sampled_from(VERSIONS),
    depth=st.integers(1, 255),
    major=INDEX,
    minor=INDEX,
)
def test_equals_the_plain_way_of_bip_utils(secret, chain_code, version, depth, major, minor):
    text = serialised(
        version=version,
        depth=depth,
        chain_code=chain_code,
        point=reference.multiply(reference.G, secret),
    )
    net = Bip32KeyNetVersions(version.public, version.private)
    slow = Bip32Slip10Secp256k1.FromExtendedKey(text, net)
    slow = slow.ChildKey(major).ChildKey(minor).PublicKey().KeyObject()
    at = {"major": major, "minor": minor}
    assert address(BTC, text, network="main", **at) == P2WPKHAddrEncoder.EncodeKey(slow, hrp="bc")
    assert address(ETH, text, network="1", **at) == EthAddrEncoder.EncodeKey(slow)


@given(
    secret=SECRET,
    version=st.sampled_from(VERSIONS),
    depth=st.integers(1, 255),
    parent=st.binary(min_size=4, max_size=4),
    number=st.integers(0, 2**32 - 1),
)
@settings(max_examples=30, deadline=None)
def test_canonical_is_one_text_however_the_key_is_written(secret, version, depth, parent, number):
    point = reference.multiply(reference.G, secret)
    written = serialised(
        version=version,
        depth=depth,
        parent=parent,
        number=number,
        chain_code=b"c" * 32,
        point=point,
    )
    canonical = parsed(BTC, written).canonical
    plain = serialised(depth=0, parent=bytes(4), number=0, chain_code=b"c" * 32, point=point)
    assert canonical == plain
    assert parsed(BTC, canonical).canonical == canonical
    other_code = serialised(chain_code=b"d" * 32, point=point)
    mirrored = serialised(chain_code=b"c" * 32, point=(point[0], reference.P - point[1]))
    assert len({canonical, parsed(BTC, other_code).canonical, parsed(BTC, mirrored).canonical}) == 3


def test_one_key_under_three_versions_has_the_same_addresses():
    payload = reference.base58_decode(samples.ZPUB)[4:]
    texts = [reference.base58check_encode(version + payload) for version in PUBLIC]
    assert len(set(texts)) == len(VERSIONS)
    assert [text[:4] for text in texts] == [version.prefix for version in VERSIONS]
    assert len({parsed(LTC, text).canonical for text in texts}) == 1
    assert len({address(LTC, text, network="main") for text in texts}) == 1


def test_description_names_the_kind_and_not_the_key():
    key = parsed(BTC, samples.ZPUB)
    fingerprint = reference.hash160(reference.base58_decode(samples.ZPUB)[45:])[:4].hex()
    assert key.description == f"zpub at depth 3 (account 0'), fingerprint {fingerprint}"
    master = BIP32_PUBLIC[3][0]
    assert parsed(BTC, master).description.startswith("xpub at depth 0 (a master key), ")
    assert parsed(BTC, BIP32_PUBLIC[3][2]).description.startswith("xpub at depth 1 (child 0), ")


def test_repr_shows_nothing_that_addresses_are_made_of():
    key = extended.parse(samples.ZPUB)
    assert key is not None
    for shown in (repr(key), repr(key.node())):
        assert repr(key.point)[2:-1] not in shown
        assert repr(key.chain_code)[2:-1] not in shown
        assert samples.ZPUB not in shown


def test_white_space_around_a_key_is_ignored():
    assert parsed(BTC, f" \n{samples.ZPUB}\t\r\n") == parsed(BTC, samples.ZPUB)


@pytest.mark.parametrize("index", [-1, 2**31, 2**32])
def test_indices_are_unhardened(index):
    deriver, key = Deriver(), parsed(BTC, samples.ZPUB).canonical
    with pytest.raises(ValueError, match=r"outside 0\.\.2147483647"):
        deriver.derive(BTC, account_of(key), network="main", major=0, minor=index)
    with pytest.raises(ValueError, match=r"outside 0\.\.2147483647"):
        deriver.derive(BTC, account_of(key), network="main", major=index, minor=0)
    last = {"major": 2**31 - 1, "minor": 2**31 - 1}
    assert deriver.derive(BTC, account_of(key), network="main", **last).address.startswith("bc1q")


def test_an_unknown_network_says_which_are_known():
    key = parsed(LTC, samples.ZPUB).canonical
    with pytest.raises(PersistentError, match=r"'signet'.*main, test, regtest.*coin\.ltc\.daemon"):
        Deriver().derive(LTC, account_of(key), network="signet", major=0, minor=1)


def test_a_damaged_stored_key_is_not_in_the_error():
    damaged = parsed(BTC, samples.ZPUB).canonical[:-1]
    with pytest.raises(ValueError, match="the store is damaged") as caught:
        Deriver().derive(BTC, account_of(damaged), network="main", major=0, minor=1)
    assert damaged not in str(caught.value)


def test_supports():
    deriver = Deriver()
    assert all(deriver.supports(chain) for chain in (BTC, LTC, ETH, BNB))
    assert not deriver.supports(XMR)
    assert form_for(family="bitcoin", chain="dash") is None


def test_the_cache_is_bounded_and_keeps_what_is_used():
    deriver, key = Deriver(capacity=2), parsed(BTC, samples.ZPUB).canonical

    def derive(major):
        return deriver.derive(BTC, account_of(key), network="main", major=major, minor=5)

    first = derive(0)
    derive(1)
    assert derive(0) == first  # now 1 is the oldest
    derive(2)
    assert (deriver.statistics().cached, deriver.statistics().capacity) == (2, 2)
    assert derive(0) == first
    assert (deriver.statistics().hits, deriver.statistics().misses) == (2, 3)
    derive(1)
    assert (deriver.statistics().hits, deriver.statistics().misses) == (2, 4)


def test_refusals_are_returned():
    refused = Deriver().parse_key(LTC, "nonsense")
    assert isinstance(refused, KeyRefused)
    assert (refused.chain, refused.field) == ("ltc", "masterPubKey")
