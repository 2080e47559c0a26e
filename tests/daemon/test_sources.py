"""From the configuration to Monero's driver, and what `tallyd check` says of several nodes."""

from __future__ import annotations

import pytest

from daemon.commands.check import Verdict, findings
from daemon.config import Config, Flags, load_config
from daemon.drivers.monero import MoneroSource
from daemon.sources import apply_live, open_source
from tests.helpers.fake_monerod import DigestGate, fake_monerod
from tests.helpers.recording_log import RecordingLog


def config_of(tmp_path, **settings: str) -> Config:
    environ = {"HOME": "/h", "STATE_DIRECTORY": str(tmp_path), "TALLY_VAULT_KEY": "ab" * 32}
    return load_config(Flags(), environ=environ | settings)


async def test_a_monero_source_is_what_the_configuration_says(tmp_path) -> None:
    async with fake_monerod() as node:
        config = config_of(tmp_path, XMR_DAEMON_URL=node.url, TALLY_XMR_POLL_INTERVAL_S="0.5")
        coin = config.coins["xmr"]
        source = open_source(coin, [], log=RecordingLog(), view_keys=tuple)
        try:
            status = await source.status()
        finally:
            await source.aclose()
        assert isinstance(source, MoneroSource)
        assert (source.chain, status.network, status.push) == ("xmr", "fakechain", "poll 0.5s")


@pytest.mark.parametrize("reloads", [False, True])
async def test_the_login_is_every_nodes_that_has_none_of_its_own(tmp_path, reloads: bool) -> None:
    async with fake_monerod() as plain, fake_monerod() as special:
        plain.digest, special.digest = DigestGate("shop", "new"), DigestGate("own", "login")
        settings = {
            "XMR_DAEMON_URL": f"{plain.url},{special.url.replace('://', '://own:login@')}",
            "XMR_DAEMON_USER": "shop",
        }
        old = config_of(tmp_path, XMR_DAEMON_PASS="old", **settings).coins["xmr"]
        new = config_of(tmp_path, XMR_DAEMON_PASS="new", **settings).coins["xmr"]
        source = open_source(old, [], log=RecordingLog())
        assert isinstance(source, MoneroSource)
        try:
            if reloads:
                apply_live(source, new)
            nodes = source.nodes
            await nodes.check()
            reasons = [health.reason for health in nodes.health()]
        finally:
            await source.aclose()
    assert reasons[1] is None
    assert (reasons[0] is None) is reloads
    assert reloads or "coin.xmr.daemon.user" in str(reasons[0])


async def test_check_compares_several_monero_nodes(tmp_path) -> None:
    async with fake_monerod() as one, fake_monerod() as other:
        other.extend((), ())
        urls = f"{one.url},{other.url},http://127.0.0.1:1"
        config = config_of(tmp_path, XMR_DAEMON_URL=urls)
        told = [each async for each in findings(config) if each.subject == "xmr endpoint"]
    assert [each.verdict for each in told] == [Verdict.OK, Verdict.OK, Verdict.WARNING]
    assert [each.text.partition(": ")[2] for each in told[:2]] == ["block 9", "block 11"]
    assert "cannot be reached" in told[2].text
