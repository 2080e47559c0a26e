"""The asset data: the built-in table, an operator's file over it, and what is wrong with one."""

import tomllib
from pathlib import Path

import pytest

from actors.core.assets import CatalogueError
from api.convert import asset_id_of, coin_of
from daemon.catalogue import (
    BUILT_IN,
    MAX_FILE_BYTES,
    CatalogueFileError,
    load_catalogue,
    load_table,
)
from daemon.keys.evm import checksummed, parse_address
from proto.goipay.crypto.v1 import CoinType

MAIN = {"eth": "1", "bnb": "56"}
COINS = {"BTC", "LTC", "ETH", "BNB", "XMR", "TON"}

POLYGON = """
[[chain]]
id = "pol"
name = "Polygon"
family = "evm"
coin = "POL"
block_time_s = 2
confirmations = 12
[[asset]]
id = "POL"
chain = "pol"
symbol = "POL"
name = "Polygon"
exponent = 18
"""
USDT = """
[[asset]]
id = "USDT_POL"
chain = "pol"
symbol = "USDT"
name = "Tether USD"
exponent = 6
contract = "0xdAC17F958D2ee523a2206206994597C13D831ec7"
network = "137"
"""
USDT_AMOY = USDT.replace("0xdAC17F958D2ee523a2206206994597C13D831ec7", "0x" + "11" * 20).replace(
    'network = "137"', "network = 80002"
)
BTC = '[[asset]]\nid = "BTC"\nchain = "btc"\nsymbol = "BTC"\nname = "Bitcoin"\nexponent = 8\n'


@pytest.fixture
def file(tmp_path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "own.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def problems(path):
    with pytest.raises(CatalogueFileError) as caught:
        load_table(path)
    assert all(problem.startswith(f"{path}: ") for problem in caught.value.problems)
    return [problem.removeprefix(f"{path}: ") for problem in caught.value.problems]


def test_built_in():
    catalogue = load_catalogue()
    families = {name: chain.family for name, chain in catalogue.chains.items()}
    bitcoin_like = {"btc": "bitcoin", "ltc": "bitcoin"}
    others = {"eth": "evm", "bnb": "evm", "xmr": "monero", "ton": "ton"}
    assert families == {**bitcoin_like, **others}
    exponents = {name: asset.exponent for name, asset in catalogue.assets.items()}
    assert exponents == {"BTC": 8, "LTC": 8, "ETH": 18, "BNB": 18, "XMR": 12, "TON": 9}
    for asset in catalogue.assets.values():
        assert asset.contract is None
        assert catalogue.chain_of(asset).coin == asset.id
    block_times = {name: chain.block_time_s for name, chain in catalogue.chains.items()}
    assert block_times == {
        "btc": 600.0,
        "ltc": 150.0,
        "eth": 12.0,
        "bnb": 0.45,
        "xmr": 120.0,
        "ton": 3.0,
    }
    assert catalogue.chains["xmr"].unlock_blocks == 10
    assert catalogue.chains["btc"].unlock_blocks == 0


def test_built_in_tokens():
    """GoiPay's, on the two main networks only: other networks have other contracts."""
    catalogue = load_catalogue(networks=MAIN)
    tokens = [asset for asset in catalogue.assets.values() if asset.contract is not None]
    by_chain = {chain: [one for one in tokens if one.chain == chain] for chain in MAIN}
    assert {chain: len(found) for chain, found in by_chain.items()} == {"eth": 13, "bnb": 23}
    assert all(one.id.endswith("_ERC20") for one in by_chain["eth"])
    assert all(one.id.endswith("_BEP20") for one in by_chain["bnb"])
    unusual = {asset.id: asset.exponent for asset in tokens if asset.exponent != 18}
    assert unusual == {
        "USDT_ERC20": 6,
        "USDC_ERC20": 6,
        "WBTC_ERC20": 8,
        "ATOM_ERC20": 6,
        "WBTC_BEP20": 8,
        "TRX_BEP20": 6,
        "DOGE_BEP20": 8,
    }
    usdt = catalogue.assets["BSCUSD_BEP20"]
    assert usdt.symbol == "BSC-USD"
    assert usdt.contract == bytes.fromhex("55d398326f99059fF775485246999027B3197955")
    for networks in (None, {"eth": "11155111", "bnb": "97"}, {"eth": "56", "bnb": "1"}):
        assert load_catalogue(networks=networks).assets.keys() == COINS


def test_built_in_contracts_carry_their_checksum():
    """Parsing accepts small letters only, which protect against no mistyping."""
    entries = tomllib.loads(BUILT_IN.read_text())["asset"]
    contracts = [
        entry["contract"]
        for entry in entries
        if "contract" in entry and entry["chain"] in ("eth", "bnb")
    ]
    assert len(contracts) == 13 + 23
    assert contracts == [checksummed(parse_address(contract)) for contract in contracts]


def test_every_coin_type_is_an_asset():
    """Of GoiPay's; USDT on TON is our own."""
    assets = load_catalogue(networks={**MAIN, "ton": "mainnet"}).assets
    assert assets.keys() == {asset_id_of(coin) for coin in CoinType} | {"USDT_TON"}
    assert coin_of("USDT_TON") is None


def test_usdt_on_ton_is_tether_s_on_the_main_network_only():
    usdt = load_catalogue(networks={"ton": "mainnet"}).assets["USDT_TON"]
    assert (usdt.chain, usdt.symbol, usdt.exponent) == ("ton", "USDT", 6)
    raw = "b113a994b5024a16719f69139328eb759596c38a25f59028b146fecdc3621dfe"
    assert usdt.contract == b"\0" + bytes.fromhex(raw)
    for networks in (None, {"ton": "testnet"}):
        catalogue = load_catalogue(networks=networks)
        assert "USDT_TON" not in catalogue.assets
        assert catalogue.assets["TON"].exponent == 9
    chain = catalogue.chains["ton"]
    assert (chain.networks, chain.confirmations) == (("mainnet", "testnet"), 1)
    assert chain.contract_text(usdt.contract) == f"0:{raw}"
    assert chain.contract_text(b"\xff" + bytes(32)) == f"-1:{'00' * 32}"


JETTON = """
[[asset]]
id = "MINE_TON"
chain = "ton"
symbol = "MINE"
name = "Mine"
exponent = 9
contract = "CONTRACT"
network = "NETWORK"
"""


@pytest.mark.parametrize(
    ("contract", "network", "expected"),
    [
        ("0:" + "Ab" * 32, "testnet", None),
        ("EQCxE6mUtQJKFnGfaROTKOt1lZbDiiX1kCixRv7Nw2Id_sDs", "testnet", None),
        ("kQCxE6mUtQJKFnGfaROTKOt1lZbDiiX1kCixRv7Nw2Id_ntm", "testnet", None),
        ("kQCxE6mUtQJKFnGfaROTKOt1lZbDiiX1kCixRv7Nw2Id_ntm", "mainnet", "marked as an address of"),
        ("EQCxE6mUtQJKFnGfaROTKOt1lZbDiiX1kCixRv7Nw2Id_sDr", "mainnet", "checksum does not match"),
        ("0xdAC17F958D2ee523a2206206994597C13D831ec7", "mainnet", "48 characters of base64"),
        ("0:" + "ab" * 31, "mainnet", "48 characters of base64"),
    ],
)
def test_a_jetton_of_one_s_own(file, contract, network, expected):
    path = file(JETTON.replace("CONTRACT", contract).replace("NETWORK", network))
    if expected is None:
        asset = load_catalogue(path, networks={"ton": network}).assets["MINE_TON"]
        assert len(asset.contract) == 33
        assert asset.contract[:1] == b"\0"
    else:
        [found] = problems(path)
        assert found.startswith("asset 1 (MINE_TON): contract: ")
        assert expected in found


def test_networks_are_the_usual_one_first():
    chains = load_catalogue().chains
    assert chains["eth"].networks == ("1", "11155111", "560048")
    assert chains["bnb"].networks == ("56", "97")
    assert chains["btc"].networks == ()


@pytest.mark.parametrize("wrong", ["-1", "1.5", '"10"', "true", "1000000"])
def test_unlock_blocks_are_blocks(file, wrong):
    chain = POLYGON.replace("confirmations = 12", f"confirmations = 12\nunlock_blocks = {wrong}")
    found = problems(file(chain))[0]
    assert "unlock_blocks: must be a whole number 0..100000" in found
    good = load_catalogue(
        file(POLYGON.replace("confirmations = 12", "confirmations = 1\nunlock_blocks = 3"))
    )
    assert good.chains["pol"].unlock_blocks == 3


def test_a_file_adds_chains_and_tokens(file):
    catalogue = load_catalogue(file(POLYGON + USDT), networks={"pol": "137"})
    assert set(catalogue.assets) == COINS | {"POL", "USDT_POL"}
    token = catalogue.assets["USDT_POL"]
    assert token.contract == bytes.fromhex("dAC17F958D2ee523a2206206994597C13D831ec7")
    assert (token.exponent, token.chain, token.symbol) == (6, "pol", "USDT")
    assert catalogue.chains["pol"].block_time_s == 2.0


def test_a_token_has_one_contract_per_network(file):
    table = load_table(file(POLYGON + USDT + USDT_AMOY))
    on_main = table.catalogue({"pol": "137"}).assets["USDT_POL"]
    on_test = table.catalogue({"pol": "80002"}).assets["USDT_POL"]
    assert on_main.contract != on_test.contract == b"\x11" * 20
    for networks in (None, {}, {"pol": "5"}, {"btc": "1"}):
        assert "USDT_POL" not in table.catalogue(networks).assets


@pytest.mark.parametrize("own_first", [True, False])
def test_an_entry_for_the_network_goes_before_the_general_one(file, own_first):
    general = USDT.replace('network = "137"\n', "").replace("exponent = 6", "exponent = 7")
    entries = (USDT + general) if own_first else (general + USDT)
    table = load_table(file(POLYGON + entries))
    assert table.catalogue({"pol": "137"}).assets["USDT_POL"].exponent == 6
    assert table.catalogue({"pol": "5"}).assets["USDT_POL"].exponent == 7
    assert table.catalogue().assets["USDT_POL"].exponent == 7


def test_a_file_replaces_whole_entries_by_id(file):
    path = file(
        '[[chain]]\nid = "ltc"\nname = "Lite"\nfamily = "bitcoin"\ncoin = "LTC"\n'
        "block_time_s = 1.5\nconfirmations = 0\n" + BTC.replace('"Bitcoin"', '"Bit Coin"')
    )
    catalogue = load_catalogue(path)
    chain = catalogue.chains["ltc"]
    assert (chain.name, chain.block_time_s, chain.confirmations) == ("Lite", 1.5, 0)
    assert catalogue.assets["BTC"].name == "Bit Coin"
    assert catalogue.chains["btc"] == load_catalogue().chains["btc"]


def test_an_empty_file_changes_nothing(file):
    table = load_table(file("# nothing yet\n"))
    assert (table.chains, table.assets) == (load_table().chains, load_table().assets)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("exponent = 8", "exponnet = 8", "exponnet: unknown field; did you mean exponent?"),
        ("exponent = 8", "exponent = 8\nqq = 1", "qq: unknown field; known are id, chain, symbol"),
        ("exponent = 8", "", "exponent: missing"),
        ("exponent = 8", 'exponent = "8"', "exponent: must be a whole number 0..30, not '8'"),
        ("exponent = 8", "exponent = true", "exponent: must be a whole number 0..30, not True"),
        ("exponent = 8", "exponent = 8.0", "exponent: must be a whole number 0..30, not 8.0"),
        ("exponent = 8", "exponent = 31", "exponent: must be a whole number 0..30, not 31"),
        ("exponent = 8", "exponent = -1", "exponent: must be a whole number 0..30, not -1"),
        ("exponent = 8", "exponent = 6", "exponent: can not be changed from 8: BTC is the coin"),
        ('chain = "btc"', 'chain = "bct"', "chain: 'bct' is not known; did you mean btc?"),
        ('chain = "btc"', 'chain = "qqqq"', "chain: 'qqqq' is not known; known are btc, ltc"),
        ('chain = "btc"', 'chain = "ltc"', "chain: can not be changed from 'btc': BTC is the coin"),
        ('symbol = "BTC"', "symbol = 7", "symbol: must be a text in quotes, not 7"),
        ('symbol = "BTC"', 'symbol = " "', "symbol: must be a text in quotes, not ' '"),
        ('name = "Bitcoin"', 'name = "a\\nb"', "name: must be a text in quotes"),
        ('name = "Bitcoin"', f'name = "{"x" * 65}"', "name: longer than 64 characters"),
        ('name = "Bitcoin"', f"name = [{'1,' * 99}]", "name: must be a text in quotes, not [1, 1"),
        ("exponent = 8", 'exponent = 8\nnetwork = ""', "network: must be a text in quotes"),
        ("exponent = 8", "exponent = 8\nnetwork = 0", "network: must be a whole number 1.."),
        (
            "exponent = 8",
            'exponent = 8\ncontract = "0x00"',
            "contract: chains of the family bitcoin have no token contracts here",
        ),
    ],
)
def test_a_wrong_field_of_an_asset(file, old, new, expected):
    assert old in BTC
    found = problems(file(BTC.replace(old, new)))
    assert any(text.startswith(f"asset 1 (BTC): {expected}") for text in found), found
    assert all(text.startswith("asset 1 (BTC): ") for text in found)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"pol"\nname', '"Pol"\nname', "chain 1 (Pol): id: 'Pol' must be lower-case letters"),
        ('"evm"', '"evn"', "chain 1 (pol): family: 'evn' is not known; did you mean evm?"),
        ('"evm"', '"zz"', "chain 1 (pol): family: 'zz' is not known; known are bitcoin, evm"),
        ('coin = "POL"', 'coin = "e"', "chain 1 (pol): coin: 'e' must be an asset's id"),
        ("= 2\nconf", "= 0\nconf", "chain 1 (pol): block_time_s: must be seconds above 0"),
        ("= 2\nconf", "= nan\nconf", "chain 1 (pol): block_time_s: must be seconds above 0"),
        ("= 2\nconf", "= inf\nconf", "chain 1 (pol): block_time_s: must be seconds above 0"),
        ("= 2\nconf", '= "12"\nconf', "chain 1 (pol): block_time_s: must be seconds above 0"),
        ("= 2\nconf", f"= 1{'0' * 999}\nconf", "chain 1 (pol): block_time_s: must be seconds"),
        ("mations = 12", "mations = -1", "chain 1 (pol): confirmations: must be a whole number"),
        ("mations = 12", "mation = 12", "chain 1 (pol): confirmation: unknown field; did you mean"),
    ],
)
def test_a_wrong_field_of_a_chain(file, old, new, expected):
    assert old in POLYGON
    found = problems(file(POLYGON.replace(old, new, 1)))
    assert any(text.startswith(expected) for text in found), found


@pytest.mark.parametrize(
    ("contract", "expected"),
    [
        ("0xdac17f958D2ee523a2206206994597C13D831ec7", "do not match its EIP-55 checksum"),
        ("dAC17F958D2ee523a2206206994597C13D831ec7", "0x and 40 hexadecimal digits"),
        ("0x1234", "0x and 40 hexadecimal digits"),
    ],
)
def test_a_wrong_contract(file, contract, expected):
    text = USDT.replace("0xdAC17F958D2ee523a2206206994597C13D831ec7", contract)
    [found] = problems(file(POLYGON + text))
    assert found.startswith("asset 2 (USDT_POL): contract: ")
    assert expected in found


def test_contracts_without_capitals_are_accepted(file):
    text = USDT.replace(
        "0xdAC17F958D2ee523a2206206994597C13D831ec7", "0xdac17f958d2ee523a2206206994597c13d831ec7"
    )
    table = load_table(file(POLYGON + text))
    assert table.assets["USDT_POL", "137"].contract[:2] == b"\xda\xc1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[assets]]\n", "unknown section 'assets'; did you mean [[asset]]?"),
        ("zzz = 1\n", "unknown section 'zzz'; known are [[chain]] and [[asset]]"),
        ("[asset]\n", "asset must be written as [[asset]], once for each entry"),
        ("asset = [1]\n", "asset must be written as [[asset]], once for each entry"),
        ("[[asset]\n", "not TOML: "),
        (f"a = 1{'0' * 5000}\n", "not TOML: "),
        (f"a = {'[' * 20_000}\n", "not TOML: "),
        (b"name = '\xff'", "byte 9 is not UTF-8"),
        (b"#" * (MAX_FILE_BYTES + 1), f"larger than {MAX_FILE_BYTES} bytes"),
    ],
)
def test_a_wrong_document(file, text, expected):
    [found] = problems(file(text))
    assert found.startswith(expected)


def test_a_missing_file_names_the_setting(tmp_path):
    expected = "the setting assets.file must name a readable file"
    for path in (tmp_path / "absent.toml", tmp_path):
        [found] = problems(path)
        assert expected in found


def test_every_problem_is_told_at_once(file):
    text = BTC.replace('"btc"', '"bct"').replace("= 8", "= 99") + "[[chian]]\n" + BTC + BTC
    assert len(problems(file(text))) == 4


def test_an_entry_twice(file):
    [found] = problems(file(POLYGON + USDT + USDT))
    assert found.startswith("asset 3 (USDT_POL): id: a second entry of this id (and network)")
    [found] = problems(file(POLYGON + POLYGON.split("[[asset]]", maxsplit=1)[0]))
    assert found.startswith("chain 2 (pol): id: a second entry")


def test_two_tokens_of_one_contract(file):
    twin = USDT.replace("USDT_POL", "USDT_TWIN")
    [found] = problems(file(POLYGON + USDT + twin))
    assert found.startswith("asset USDT_TWIN: contract: the same as that of USDT_POL")
    load_table(file(POLYGON + USDT + twin.replace('network = "137"', 'network = "5"')))


def test_a_token_of_ours_on_a_network_of_the_operator_s(file):
    path = file(
        '[[asset]]\nid = "USDT_ERC20"\nchain = "eth"\nsymbol = "USDT"\nname = "Test USD"\n'
        f'exponent = 18\nnetwork = 31337\ncontract = "0x{"22" * 20}"\n'
    )
    own = load_catalogue(path, networks={"eth": "31337"}).assets["USDT_ERC20"]
    assert (own.contract, own.exponent) == (b"\x22" * 20, 18)
    built_in = load_catalogue(networks=MAIN).assets["USDT_ERC20"]
    assert load_catalogue(path, networks=MAIN).assets["USDT_ERC20"] == built_in


def test_further_chains_are_a_few_lines(file):
    """Two chains may have coins of one symbol; the ids differ."""
    layers = (("arb", "Arbitrum One", 0.25), ("base", "Base", 2), ("own", "Our chain", 5))
    path = file(
        "".join(
            f'[[chain]]\nid = "{chain}"\nname = "{name}"\nfamily = "evm"\n'
            f'coin = "ETH_{chain.upper()}"\nblock_time_s = {seconds}\nconfirmations = 20\n'
            f'[[asset]]\nid = "ETH_{chain.upper()}"\nchain = "{chain}"\nsymbol = "ETH"\n'
            'name = "Ether"\nexponent = 18\n'
            for chain, name, seconds in layers
        )
        + POLYGON
    )
    catalogue = load_catalogue(path)
    own = {"arb", "base", "own", "pol"}
    assert set(catalogue.chains) == load_catalogue().chains.keys() | own
    assert catalogue.assets["ETH_ARB"].symbol == catalogue.assets["ETH"].symbol


def test_one_id_is_one_chain_s(file):
    path = file(
        '[[asset]]\nid = "USDT_ERC20"\nchain = "bnb"\nsymbol = "USDT"\nname = "T"\n'
        f'exponent = 6\nnetwork = 97\ncontract = "0x{"22" * 20}"\n'
    )
    [found] = problems(path)
    assert found.startswith("asset USDT_ERC20: chain: 'bnb' on network 97, but 'eth' elsewhere")


def test_a_coin_is_a_coin_on_every_network(file):
    twin = USDT.replace("USDT_POL", "POL").replace('"137"', '"5"')
    [found] = problems(file(POLYGON + twin))
    assert found == "chain pol: coin 'POL' is not a native asset of that chain"


def test_what_is_built_in_keeps_its_nature(file):
    chain = (
        '[[chain]]\nid = "btc"\nname = "B"\nfamily = "evm"\ncoin = "LTC"\n'
        "block_time_s = 1\nconfirmations = 1\n"
    )
    found = problems(file(chain))
    assert found == [
        "chain 1 (btc): family: can not be changed from 'bitcoin': btc is built in",
        "chain 1 (btc): coin: can not be changed from 'BTC': btc is built in",
    ]


def test_a_chain_without_its_coin(file):
    [found] = problems(file(POLYGON.split("[[asset]]", maxsplit=1)[0]))
    assert found == "chain pol: coin 'POL' is not a native asset of that chain"


def test_a_native_coin_is_no_token(file):
    text = POLYGON + 'contract = "0x' + "11" * 20 + '"\n'
    [found] = problems(file(text))
    assert found == "chain pol: coin 'POL' is not a native asset of that chain"


def test_the_error_is_a_catalogue_error(file):
    with pytest.raises(CatalogueError, match="unknown section 'a'"):
        load_catalogue(file("a = 1"))
