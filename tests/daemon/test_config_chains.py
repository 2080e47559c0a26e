"""Chains as configuration: EVM endpoints, chain ids, and what an operator's asset file declares."""

import re

import pytest

from daemon.config import (
    Config,
    ConfigError,
    EvmConfig,
    Flags,
    MoneroConfig,
    NodeUrl,
    Secret,
    TonConfig,
    load_config,
    reloadable_changes,
)

ARBITRUM = """
[[chain]]
id = "arb"
name = "Arbitrum One"
family = "evm"
coin = "ETH_ARB"
block_time_s = 0.25
confirmations = 20
networks = [42161]

[[asset]]
id = "ETH_ARB"
chain = "arb"
symbol = "ETH"
name = "Ether"
exponent = 18

[[asset]]
id = "USDC_ARB"
chain = "arb"
symbol = "USDC"
name = "USD Coin"
exponent = 6
contract = "0xaf88d065e77c8cC2239327C5EDb3A432268e5831"
network = 42161
"""
ETH = {"ETH_DAEMON_URL": "ws://127.0.0.1:8546"}


@pytest.fixture
def load(tmp_path):
    """Load a configuration from a text and variables; `assets` becomes own.toml beside it."""

    def run(text="", env=None, *, assets=None) -> Config:
        file = tmp_path / "tallyd.yml"
        if assets is not None:
            (tmp_path / "own.toml").write_text(assets)
            text = "assets: {file: own.toml}\n" + text
        file.write_text(text)
        return load_config(Flags(config=file), environ={"HOME": "/h", **(env or {})})

    return run


@pytest.fixture
def refused(load):
    """The problems of a configuration, as lines."""

    def run(*args, **options) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(*args, **options)
        return [str(problem) for problem in caught.value.problems]

    return run


def urls(config, coin="eth"):
    return [node.url for node in config.coins[coin].nodes]


def test_goipays_variables_switch_both_chains_on(load):
    config = load(env={**ETH, "BNB_DAEMON_URL": "https://bsc.example/key"})
    assert list(config.coins) == ["eth", "bnb"]
    eth, bnb = config.coins.values()
    assert (eth.coin, eth.confirmations, eth.poll_interval_s) == ("eth", 12, 1.0)
    assert (bnb.coin, bnb.confirmations, bnb.poll_interval_s) == ("bnb", 15, 0.45)
    assert eth.evm == EvmConfig(chain_id=1, finality=None, internal="auto")
    assert bnb.evm == EvmConfig(chain_id=56, finality=None, internal="auto")
    assert not eth.zmq.enabled
    assert bnb.display == "https://bsc.example"
    assert config.warnings == ()
    assert load(env={"BTC_DAEMON_URL": "http://h:1"}).coins["btc"].evm is None


@pytest.mark.parametrize(
    "written",
    [
        "ws://a:1, https://b/key",
        "[ws://a:1, https://b/key]",
        "['${A}', 'https://b/key', '${NOT_SET}']",
        "'${BOTH}'",
    ],
)
def test_several_endpoints_in_order_of_preference(load, written):
    text = f"coin: {{eth: {{daemon: {{url: {written}}}}}}}\n"
    if "," in written and written[0] not in "['":
        text = f"coin:\n  eth:\n    daemon:\n      url: {written}\n"
    config = load(text, {"A": "ws://a:1", "BOTH": "ws://a:1,https://b/key"})
    assert urls(config) == ["ws://a:1", "https://b/key"]
    assert config.coins["eth"].display == "ws://a:1, https://b"


def test_users_stand_in_the_urls_and_are_not_seen(load):
    config = load(env={"ETH_DAEMON_URL": "wss://al%40ice:s%2Fesame@h/key99,https://h2"})
    own, other = config.coins["eth"].nodes
    assert own == NodeUrl("wss://h/key99", "al@ice", Secret("s/esame"))
    assert own.reveal() == "wss://al%40ice:s%2Fesame@h/key99"
    assert other.reveal() == "https://h2"
    seen = f"{config!r} {config.coins['eth']} {own} {own!r}"
    assert not any(secret in seen for secret in ("key99", "esame"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://h", "write a whole ws, wss, http or https URL such as ws://127.0.0.1:8546"),
        ("ws://h ws://i", "write a whole ws, wss"),
        (",", "write a whole ws, wss"),
        ("ws://a,ws://b,ws://a", "the same URL stands there twice"),
        (",".join(f"ws://a:{port}" for port in range(1, 18)), "at most 16 URLs"),
        ("ws://h/#x", "a URL of a node has no #fragment"),
    ],
)
def test_wrong_endpoints(refused, url, message):
    [line] = refused(env={"ETH_DAEMON_URL": url})
    assert f"coin.eth.daemon.url: {message}" in line


def test_the_family_s_settings(load):
    config = load(
        "coin:\n  eth:\n    daemon: {url: 'ws://h:1'}\n    chain_id: 11155111\n"
        "    finality: safe\n    internal: balance\n    confirmations: 3\n    poll_interval_s: 2\n"
    )
    eth = config.coins["eth"]
    assert eth.evm == EvmConfig(chain_id=11155111, finality="safe", internal="balance")
    assert (eth.confirmations, eth.chain.confirmations, eth.poll_interval_s) == (3, 3, 2.0)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("finality: latest", "coin.eth.finality: write one of none, safe, finalized"),
        ("internal: yes", "coin.eth.internal: write one of auto, trace, debug, balance, off"),
        ("chain_id: '0x1'", "coin.eth.chain_id: write a whole decimal number from 1 to"),
        ("cookie_file: a", "coin.eth.cookie_file: unknown setting"),
        ("zmq: off", "coin.eth.zmq: unknown setting"),
    ],
)
def test_wrong_settings_of_the_family(refused, setting, message):
    [line] = refused(f"coin:\n  eth:\n    {setting}\n", ETH)
    assert message in line


def test_bitcoin_has_none_of_them(refused):
    [line] = refused("coin: {btc: {finality: safe}}\n")
    assert "coin.btc.finality: unknown setting" in line


def test_tokens_are_those_of_the_chain_id(load):
    main = load(env=ETH).catalogue.assets
    assert {"ETH", "BNB", "USDT_ERC20", "BSCUSD_BEP20"} <= main.keys(), "also where BNB is off"
    sepolia = load(env={**ETH, "TALLY_ETH_CHAIN_ID": "11155111"}).catalogue.assets
    assert "USDT_ERC20" not in sepolia
    assert {"ETH", "BSCUSD_BEP20"} <= sepolia.keys()


def test_a_chain_of_the_asset_file_is_configured_like_a_built_in_one(load):
    env = {"TALLY_ARB_CONFIRMATIONS": "30", "CREDENTIALS_DIRECTORY": ""}
    text = "coin: {arb: {daemon: {url: [ws://a:1, ws://b:1]}, finality: finalized}}\n"
    config = load(text, env, assets=ARBITRUM)
    assert list(config.coins) == ["arb"]
    arb = config.coins["arb"]
    assert arb.chain.name == "Arbitrum One"
    assert arb.evm == EvmConfig(chain_id=42161, finality="finalized", internal="auto")
    assert (arb.confirmations, arb.poll_interval_s) == (30, 0.25)
    assert config.catalogue.assets["USDC_ARB"].contract is not None
    assert load(env={"ARB_DAEMON_URL": "ws://h:1"}, assets=ARBITRUM).coins.keys() == {"arb"}
    assert load(env={"TALLY_ARB_DAEMON_URL": "ws://h:1"}, assets=ARBITRUM).warnings == ()


def test_credentials_of_such_a_chain_are_known(load, tmp_path):
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "arb_daemon_url").write_text("wss://h/key\n")
    env = {"CREDENTIALS_DIRECTORY": str(folder)}
    assert urls(load(env=env, assets=ARBITRUM), "arb") == ["wss://h/key"]
    assert any("arb_daemon_url belongs to no setting" in one for one in load("", env).warnings)


def test_a_dash_in_a_chains_name_is_an_underscore_in_variables(load, refused):
    own = ARBITRUM.replace('"arb"', '"arb-one"')
    config = load(env={"TALLY_ARB_ONE_DAEMON_URL": "ws://h:1"}, assets=own)
    assert list(config.coins) == ["arb-one"]
    both = own + ARBITRUM.replace('"arb"', '"arb_one"').replace("_ARB", "_ARB2")
    assert any("differs from arb-one by - and _ only" in line for line in refused(assets=both))


def test_a_chain_whose_file_names_no_network_needs_its_chain_id(load, refused):
    own = ARBITRUM.replace("networks = [42161]\n", "")
    env = {"ARB_DAEMON_URL": "ws://h:1"}
    [line] = refused(env=env, assets=own)
    assert line.startswith(
        "configuration: coin.arb.chain_id: is needed because coin.arb.daemon.url"
    )
    config = load(env={**env, "TALLY_ARB_CHAIN_ID": "42161"}, assets=own)
    assert "USDC_ARB" in config.catalogue.assets
    assert load(assets=own).coins == {}


def test_a_wrong_asset_file_is_reported_with_the_rest(refused):
    lines = refused(
        "coin: {arb: {daemon: {url: 'ws://h:1'}}}\nhttp: {port: x}\n",
        assets=ARBITRUM.replace("[42161]", '["arb1"]').replace("block_time_s = 0.25", ""),
    )
    assert any("networks: must be a list of chain ids; 'arb1' is none" in line for line in lines)
    assert any("block_time_s: missing" in line for line in lines)
    assert any("http.port" in line for line in lines)
    assert all("tallyd.yml" in line for line in lines)
    assert not any("unknown setting" in line for line in lines)


def test_an_asset_file_that_is_not_there(refused):
    [line] = refused("assets: {file: absent.toml}\n")
    assert "tallyd.yml:1:16: assets.file: " in line
    assert "must name a readable file" in line


@pytest.mark.parametrize("networks", ["[]", "[0]", "['01']", '"1"', "[1, '1']", "[true]", "[1.5]"])
def test_networks_are_a_list_of_chain_ids(refused, networks):
    lines = refused(assets=ARBITRUM.replace("[42161]", networks))
    assert any(": networks: " in line for line in lines)


def test_a_changed_asset_file_needs_a_restart(load):
    old = load(env=ETH, assets=ARBITRUM)
    new = load(env={**ETH, "ARB_DAEMON_URL": "ws://h:1"}, assets=ARBITRUM)
    assert reloadable_changes(old, new).restart == ("coin.arb.daemon.url",)
    sepolia = load(env={**ETH, "TALLY_ETH_CHAIN_ID": "11155111"}, assets=ARBITRUM)
    assert reloadable_changes(old, sepolia).restart == ("coin.eth.chain_id",)
    other = load(env=ETH, assets=ARBITRUM.replace("exponent = 6", "exponent = 8"))
    assert reloadable_changes(old, other).restart == ("assets.file",)
    gone = reloadable_changes(new, load(env=ETH))
    assert set(gone.restart) == {"assets.file", "coin.arb.daemon.url"}
    assert gone.live == ()


XMR = {"XMR_DAEMON_URL": "http://127.0.0.1:18081"}


def test_monero_with_goipays_variables(load):
    config = load(env={**XMR, "XMR_DAEMON_USER": "al", "XMR_DAEMON_PASS": "sesame"})
    xmr = config.coins["xmr"]
    assert (xmr.confirmations, xmr.poll_interval_s, xmr.chain.unlock_blocks) == (10, 1.0, 10)
    assert xmr.nodes == (NodeUrl("http://127.0.0.1:18081", "al", Secret("sesame")),)
    assert xmr.monero == MoneroConfig(zmq_pub=None)
    assert (xmr.evm, xmr.zmq.enabled, xmr.cookie_file) == (None, False, None)
    assert config.warnings == ()
    assert "sesame" not in repr(config)


def test_of_several_monero_nodes_each_may_have_its_own_login(load):
    config = load(
        "coin:\n  xmr:\n    daemon:\n      url: ['http://a:1', 'https://own:word@b']\n"
        "      user: al\n      pass: sesame\n    zmq: {pub: 'tcp://127.0.0.1:18083'}\n"
    )
    nodes = config.coins["xmr"].nodes
    assert nodes == (
        NodeUrl("http://a:1", "al", Secret("sesame")),
        NodeUrl("https://b", "own", Secret("word")),
    )
    assert config.coins["xmr"].monero == MoneroConfig(zmq_pub="tcp://127.0.0.1:18083")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("daemon: {url: 'ws://h'}", "coin.xmr.daemon.url: write a whole http or https URL such as"),
        ("daemon: {url: 'http://h', pass: x}", "coin.xmr.daemon.user: is needed because"),
        ("daemon: {url: 'http://h'}\n    cookie_file: a", "coin.xmr.cookie_file: unknown setting"),
        ("daemon: {url: 'http://h'}\n    zmq: {rawtx: 'tcp://h:1'}", "coin.xmr.zmq.rawtx: unknown"),
        ("daemon: {url: 'http://h'}\n    zmq: {pub: 'http://h:1'}", "coin.xmr.zmq.pub: write an"),
    ],
)
def test_wrong_settings_of_monero(refused, text, message):
    [line] = refused(f"coin:\n  xmr:\n    {text}\n")
    assert message in line


def test_zmq_that_is_off_has_no_endpoint(refused):
    env = {**XMR, "TALLY_XMR_ZMQ": "off", "TALLY_XMR_ZMQ_PUB": "tcp://h:1"}
    [line] = refused(env=env)
    assert "coin.xmr.zmq: is off, but coin.xmr.zmq.pub is set" in line


def test_the_vault_s_key_is_a_setting_a_credential_or_a_file(load, refused, tmp_path):
    key = "Ab" * 32
    vault = load().vault
    assert (vault.key, vault.default) == (None, True)
    assert str(vault.key_file) == "/h/.local/state/tallyd/vault.key"
    config = load(f"vault: {{key: {key}}}\n")
    assert (config.vault.key, config.vault.default) == (Secret(key.lower()), False)
    assert key.lower() not in repr(config).lower()
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "vault_key").write_text(f"{key}\n")
    assert load(env={"CREDENTIALS_DIRECTORY": str(folder)}).vault.key == Secret(key.lower())
    vault = load("vault: {key_file: own.key}\n").vault
    assert (vault.key, vault.key_file, vault.default) == (None, tmp_path / "own.key", False)
    [line] = refused(f"vault: {{key: {key}, key_file: own.key}}\n")
    assert "vault.key_file: and vault.key are both set" in line
    for wrong in (key[:-1], key + "0", key[:-1] + "g", f"0x{key}"):
        [line] = refused(f"vault: {{key: {wrong}}}\n")
        assert "vault.key: write 64 hexadecimal digits" in line
        assert wrong not in line


def test_revealing_view_keys_is_warned_about(load):
    assert not load().server.reveal_view_keys
    config = load("server: {reveal_view_keys: true}\n")
    assert config.server.reveal_view_keys
    assert any("server.reveal_view_keys is on" in warning for warning in config.warnings)


TON = {"TON_DAEMON_URL": "https://toncenter.com"}


def test_ton_by_default(load):
    config = load(env=TON)
    ton = config.coins["ton"]
    assert (ton.confirmations, ton.poll_interval_s, ton.rpc_timeout_s) == (1, 1.0, 30.0)
    assert ton.nodes == (NodeUrl("https://toncenter.com", None, None),)
    assert ton.ton == TonConfig("mainnet", streaming=True, wallet="v4r2", comments=False)
    assert (ton.evm, ton.monero, ton.cookie_file, ton.zmq.enabled) == (None, None, None, False)
    assert config.catalogue.assets.keys() >= {"TON", "USDT_TON"}


def test_every_setting_of_ton(load):
    config = load(
        "coin:\n  ton:\n    daemon:\n      url: ['https://a/x', 'http://:another@b:1']\n"
        "      api_key: sesame\n"
        "    network: testnet\n    streaming: off\n    wallet: v5r1\n    invoices: comment\n"
    )
    ton = config.coins["ton"]
    assert ton.nodes == (
        NodeUrl("https://a/x", None, Secret("sesame")),
        NodeUrl("http://b:1", None, Secret("another")),
    )
    assert ton.ton == TonConfig("testnet", streaming=False, wallet="v5r1", comments=True)
    assert not re.search("sesame|another", f"{config!r} {config.settings!r}")
    assert "TON" in config.catalogue.assets
    assert "USDT_TON" not in config.catalogue.assets


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("daemon: {url: 'ws://h'}", "coin.ton.daemon.url: write a whole http or https URL such as"),
        ("daemon: {url: 'http://h', pass: x}", "coin.ton.daemon.pass: unknown setting"),
        ("network: main", "coin.ton.network: write one of mainnet, testnet"),
        ("streaming: on", "coin.ton.streaming: write one of auto, off"),
        ("wallet: v3r2", "coin.ton.wallet: write one of v4r2, v5r1"),
        ("invoices: memo", "coin.ton.invoices: write one of address, comment"),
        ("chain_id: 1", "coin.ton.chain_id: unknown setting"),
    ],
)
def test_wrong_settings_of_ton(refused, text, message):
    [line] = refused(f"coin:\n  ton:\n    {text}\n")
    assert message in line


def test_a_new_api_key_is_live_and_another_network_needs_a_restart(load):
    old = load(env=TON)
    plan = reloadable_changes(old, load(env={**TON, "TALLY_TON_DAEMON_API_KEY": "new"}))
    assert (plan.live, plan.restart) == (("coin.ton.daemon.api_key",), ())
    plan = reloadable_changes(old, load(env={**TON, "TALLY_TON_NETWORK": "testnet"}))
    assert (plan.live, plan.restart) == ((), ("coin.ton.network",))
