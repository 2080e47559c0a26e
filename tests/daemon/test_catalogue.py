"""The asset data: the built-in table, an operator's file over it, and what is wrong with one."""

from pathlib import Path

import pytest

from actors.core.assets import CatalogueError
from daemon.catalogue import MAX_FILE_BYTES, CatalogueFileError, load_catalogue, load_table
from daemon.config.settings import COINS, DRIVERS

ETHEREUM = """
[[chain]]
id = "eth"
name = "Ethereum"
family = "evm"
coin = "ETH"
block_time_s = 12
confirmations = 12
[[asset]]
id = "ETH"
chain = "eth"
symbol = "ETH"
name = "Ether"
exponent = 18
"""
USDT = """
[[asset]]
id = "USDT_ERC20"
chain = "eth"
symbol = "USDT"
name = "Tether USD"
exponent = 6
contract = "0xdAC17F958D2ee523a2206206994597C13D831ec7"
network = "1"
"""
USDT_SEPOLIA = USDT.replace("0xdAC17F958D2ee523a2206206994597C13D831ec7", "0x" + "11" * 20).replace(
    'network = "1"', "network = 11155111"
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
    assert set(catalogue.chains) == {"btc", "ltc"}
    assert set(catalogue.assets) == {"BTC", "LTC"}
    for asset in catalogue.assets.values():
        assert (asset.exponent, asset.contract) == (8, None)
        assert catalogue.chain_of(asset).coin == asset.id
        assert catalogue.chain_of(asset).family == "bitcoin"
    block_times = [catalogue.chains[chain].block_time_s for chain in ("btc", "ltc")]
    assert block_times == [600.0, 150.0]


def test_the_settings_agree_with_the_table():
    """The number of confirmations stands in both; the configuration's is what people are shown."""
    chains = load_catalogue().chains
    assert chains.keys() == DRIVERS
    for name, chain in chains.items():
        assert COINS[name].confirmations == chain.confirmations


def test_a_file_adds_chains_and_tokens(file):
    catalogue = load_catalogue(file(ETHEREUM + USDT), networks={"eth": "1"})
    assert set(catalogue.assets) == {"BTC", "LTC", "ETH", "USDT_ERC20"}
    token = catalogue.assets["USDT_ERC20"]
    assert token.contract == bytes.fromhex("dAC17F958D2ee523a2206206994597C13D831ec7")
    assert (token.exponent, token.chain, token.symbol) == (6, "eth", "USDT")
    assert catalogue.chains["eth"].block_time_s == 12.0


def test_a_token_has_one_contract_per_network(file):
    table = load_table(file(ETHEREUM + USDT + USDT_SEPOLIA))
    on_main = table.catalogue({"eth": "1"}).assets["USDT_ERC20"]
    on_test = table.catalogue({"eth": "11155111"}).assets["USDT_ERC20"]
    assert on_main.contract != on_test.contract == b"\x11" * 20
    for networks in (None, {}, {"eth": "5"}, {"btc": "1"}):
        assert "USDT_ERC20" not in table.catalogue(networks).assets


@pytest.mark.parametrize("own_first", [True, False])
def test_an_entry_for_the_network_goes_before_the_general_one(file, own_first):
    general = USDT.replace('network = "1"\n', "").replace("exponent = 6", "exponent = 7")
    entries = (USDT + general) if own_first else (general + USDT)
    table = load_table(file(ETHEREUM + entries))
    assert table.catalogue({"eth": "1"}).assets["USDT_ERC20"].exponent == 6
    assert table.catalogue({"eth": "5"}).assets["USDT_ERC20"].exponent == 7
    assert table.catalogue().assets["USDT_ERC20"].exponent == 7


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
        ('"eth"\nname', '"Eth"\nname', "chain 1 (Eth): id: 'Eth' must be lower-case letters"),
        ('"evm"', '"evn"', "chain 1 (eth): family: 'evn' is not known; did you mean evm?"),
        ('"evm"', '"zz"', "chain 1 (eth): family: 'zz' is not known; known are bitcoin, evm"),
        ('coin = "ETH"', 'coin = "e"', "chain 1 (eth): coin: 'e' must be an asset's id"),
        ("= 12\nconf", "= 0\nconf", "chain 1 (eth): block_time_s: must be seconds above 0"),
        ("= 12\nconf", "= nan\nconf", "chain 1 (eth): block_time_s: must be seconds above 0"),
        ("= 12\nconf", "= inf\nconf", "chain 1 (eth): block_time_s: must be seconds above 0"),
        ("= 12\nconf", '= "12"\nconf', "chain 1 (eth): block_time_s: must be seconds above 0"),
        ("= 12\nconf", f"= 1{'0' * 999}\nconf", "chain 1 (eth): block_time_s: must be seconds"),
        ("mations = 12", "mations = -1", "chain 1 (eth): confirmations: must be a whole number"),
        ("mations = 12", "mation = 12", "chain 1 (eth): confirmation: unknown field; did you mean"),
    ],
)
def test_a_wrong_field_of_a_chain(file, old, new, expected):
    assert old in ETHEREUM
    found = problems(file(ETHEREUM.replace(old, new, 1)))
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
    [found] = problems(file(ETHEREUM + text))
    assert found.startswith("asset 2 (USDT_ERC20): contract: ")
    assert expected in found


def test_contracts_without_capitals_are_accepted(file):
    text = USDT.replace(
        "0xdAC17F958D2ee523a2206206994597C13D831ec7", "0xdac17f958d2ee523a2206206994597c13d831ec7"
    )
    table = load_table(file(ETHEREUM + text))
    assert table.assets["USDT_ERC20", "1"].contract[:2] == b"\xda\xc1"


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
    [found] = problems(file(ETHEREUM + USDT + USDT))
    assert found.startswith("asset 3 (USDT_ERC20): id: a second entry of this id (and network)")
    [found] = problems(file(ETHEREUM + ETHEREUM.split("[[asset]]", maxsplit=1)[0]))
    assert found.startswith("chain 2 (eth): id: a second entry")


def test_two_tokens_of_one_contract(file):
    twin = USDT.replace("USDT_ERC20", "USDT_TWIN")
    [found] = problems(file(ETHEREUM + USDT + twin))
    assert found.startswith("asset USDT_TWIN: contract: the same as that of USDT_ERC20")
    load_table(file(ETHEREUM + USDT + twin.replace('network = "1"', 'network = "5"')))


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
    [found] = problems(file(ETHEREUM.split("[[asset]]", maxsplit=1)[0]))
    assert found == "chain eth: coin 'ETH' is not a native asset of that chain"


def test_a_native_coin_is_no_token(file):
    text = ETHEREUM + 'contract = "0x' + "11" * 20 + '"\n'
    [found] = problems(file(text))
    assert found == "chain eth: coin 'ETH' is not a native asset of that chain"


def test_the_error_is_a_catalogue_error(file):
    with pytest.raises(CatalogueError, match="unknown section 'a'"):
        load_catalogue(file("a = 1"))
