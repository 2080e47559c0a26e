"""docs/configuration.md and systemd's files say what the table of settings says."""

import re
from pathlib import Path

import pytest
import yaml

from daemon.catalogue import load_table
from daemon.config import Flags, MoneroConfig, TonConfig, load_config
from daemon.config.settings import SettingTable
from daemon.keys.evm import checksummed, parse_address

ROOT = Path(__file__).parents[2]
CHAINS = load_table().chains
TABLE = SettingTable(CHAINS.values())
OF_THE_CHAIN = ("confirmations", "poll_interval_s", "chain_id")
"""Settings whose default is data of the chain."""
PAGE = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
ROWS = {
    cells[0].strip("` "): cells[1:]
    for cells in (row.strip("|").split("|") for row in PAGE.splitlines() if row.startswith("| `"))
}


def _documented(value: object) -> str:
    if value is None or value == ():
        return "unset"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


@pytest.mark.parametrize("path", TABLE.rows)
def test_each_setting_has_its_row(path):
    setting = TABLE.rows[path]
    coin = path.split(".")[1] if path.startswith("coin.") else None
    row = path.replace(f"coin.{coin}", "coin.COIN", 1)
    environment, default, live, _meaning = ROWS[row]
    names = ", ".join(f"`{name}`" for name in reversed(setting.env_names))
    if coin is not None:
        names = names.replace(f"{coin.upper()}_", "COIN_")
    assert environment.strip() == names
    assert live.strip() == ("yes" if setting.live else "")
    if path.rpartition(".")[2] in OF_THE_CHAIN:
        assert default.strip() == "see below"
    else:
        assert default.strip() == _documented(setting.default)


def test_no_row_without_a_setting():
    known = {re.sub(r"^coin\.[a-z]+", "coin.COIN", path) for path in TABLE.rows}
    assert set(ROWS) == known


def test_coins_on_the_page():
    by_default = ", ".join(f"{coin} {chain.confirmations}" for coin, chain in CHAINS.items())
    assert f"Confirmations by default: {by_default}." in PAGE
    ids = [f"{coin} {one.networks[0]}" for coin, one in CHAINS.items() if one.family == "evm"]
    assert f"Chain ids by default: {', '.join(ids)}." in PAGE
    coins = [f"`{coin}`" for coin in TABLE.families]
    assert f"COIN is {', '.join(coins[:-1])} or {coins[-1]}" in PAGE


def test_the_pages_example_loads(tmp_path):
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / "tallyd.yml"
    file.write_text(example)
    config = load_config(Flags(config=file), environ={"HOME": "/h", "BTC_DAEMON_PASS": "x"})
    assert list(config.coins) == ["btc", "ltc"]


def test_the_example_file_loads_as_it_is_and_with_its_comments_taken_off(tmp_path):
    text = (ROOT / "systemd/tallyd.yml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) is None, "everything in it is commented"
    file = tmp_path / "tallyd.yml"
    file.write_text(text)
    load_config(Flags(config=file), environ={"HOME": "/h"})
    opened = re.sub(r"(?m)^#", "", text[text.index("#server:") :])
    # The two ways to log in to a node exclude each other.
    file.write_text(re.sub(r"(?m)^    cookie_file:.*\n", "", opened))
    config = load_config(Flags(config=file), environ={"HOME": "/h"})
    assert list(config.coins) == ["btc", "ltc", "eth", "xmr", "ton"]
    assert config.coins["xmr"].monero == MoneroConfig(zmq_pub="tcp://127.0.0.1:18083")
    assert config.coins["ton"].ton == TonConfig(
        "mainnet", streaming=True, wallet="v4r2", comments=False
    )
    assert not config.vault.default
    assert config.coins["btc"].confirmations == CHAINS["btc"].confirmations
    assert config.server.tls.client_ca == (tmp_path / "clients.crt",)


def test_the_examples_of_the_page_on_chains_load(tmp_path):
    page = (ROOT / "docs/chains.md").read_text(encoding="utf-8")
    entries = "\n".join(re.findall(r"```toml\n(.*?)```", page, re.DOTALL))
    (tmp_path / "assets.toml").write_text(entries)
    table = load_table(tmp_path / "assets.toml")
    assert {"arb", "pol", "base", "own"} < table.chains.keys()
    contracts = re.findall(r'contract = "(0x.*)"', entries)
    assert contracts == [checksummed(parse_address(contract)) for contract in contracts]
    for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL):
        file = tmp_path / "tallyd.yml"
        file.write_text(text.replace("/etc/tallyd/", ""))
        config = load_config(Flags(config=file), environ={"HOME": "/h"})
        assert config.coins.keys() & {"eth", "xmr", "ton"}
        assert config.coins.keys() <= table.chains.keys()
