"""Monero's view keys through the whole daemon: where they may be found, and where never."""

import signal
import stat

from tests.helpers.goipay_client import GoiPay
from tests.helpers.process import wait_until

VIEW = "8aa763d1c8d9da4ca75cb6ca22a021b5cca376c1367be8d62bcc9cdf4b926009"
SPEND = "38e9908d33d034de0ba1281aa7afe3907b795cea14852b3d8fe276e8931cb130"
# The private spend key and the view key of the wallet in monero's own tests.
SPEND_PRIVATE = "148d78d2aba7dbca5cd8f6abcfb0b3c009ffbdbea1ff373d50ed94d78286640e"
ITS_VIEW = "49774391fa5e8d249fc2c5b45dadef13534bf2483dede880dac88f061e809100"
ABSENT_NODE = {"XMR_DAEMON_URL": "http://127.0.0.1:1", "TALLY_LOG_LEVEL": "debug"}


def secrets():
    for text in (VIEW, SPEND_PRIVATE, ITS_VIEW):
        yield from (text[:16].encode(), bytes.fromhex(text)[:8])


def everything_written(daemon):
    """All files of the state folder: database, journal, lock, log."""
    files = [path for path in daemon.folder.rglob("*") if path.is_file()]
    assert {"tallyd.db", "tallyd.log"} <= {path.name for path in files}
    return {path.name: path.read_bytes() for path in files}


def everything_said(daemon, user):
    """What the APIs and commands tell of the daemon."""
    paths = (
        "/metrics",
        "/readyz",
        "/v1/chains",
        "/v1/assets",
        "/openapi.json",
        f"/v1/users/{user}",
    )
    said = [str(daemon.http("GET", path)) for path in paths]
    said += [daemon.command("check").stdout]
    return " ".join(said).encode()


def run_and_give_keys(daemon):
    """A user with Monero keys given over both APIs, and wrong ones given in between."""
    daemon.start(ready=False)
    with GoiPay(daemon.grpc_port) as client:
        user = client.register()
        client.set_keys(user, xmr=f"{VIEW}:{SPEND}")
        wrong = {"xmr": f"{ITS_VIEW}:{SPEND_PRIVATE}"}
        status, _, problem = daemon.http("PUT", f"/v1/users/{user}/keys", wrong)
        assert (status, "private spend key" in problem["detail"]) == (422, True)
        same = {"xmr": f"{VIEW}:{SPEND}"}
        assert daemon.http("PUT", f"/v1/users/{user}/keys", same)[0] == 204
        revealed = client.call("GetCryptoKeys", userId=user)
    return user, revealed


def test_view_keys_are_nowhere_to_be_read(make_daemon):
    daemon = make_daemon(env=ABSENT_NODE)
    user, revealed = run_and_give_keys(daemon)
    assert not revealed.HasField("xmrKeys")
    said = everything_said(daemon, user)
    daemon.send(signal.SIGHUP)
    wait_until(lambda: "reload" in daemon.log.read_text(), "the reload is logged")
    for secret in secrets():
        assert secret not in said
        for name, content in everything_written(daemon).items():
            assert secret not in content, name
    file = daemon.folder / "vault.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_bytes().strip() not in said + daemon.log.read_bytes()
    assert "a copy of the state folder is enough to read them" in daemon.log.read_text()
    checked = daemon.command("check").stdout
    assert "1 view keys can be opened" in checked


def test_a_vault_key_that_is_lost_or_wrong_stops_the_start_and_the_right_one_helps(make_daemon):
    daemon = make_daemon(env=ABSENT_NODE)
    run_and_give_keys(daemon)
    assert daemon.stop()
    file = daemon.folder / "vault.key"
    right = file.read_text()
    file.unlink()
    failed = daemon.command("run")
    assert failed.returncode == 1
    assert "vault.key, by default) does not exist, but 1 view keys" in failed.stderr
    assert not file.exists()
    daemon.extra_env["TALLY_VAULT_KEY"] = "07" * 32
    failed = daemon.command("run")
    assert (failed.returncode, "07" * 8 in failed.stderr + failed.stdout) == (1, False)
    assert "vault.key (environment TALLY_VAULT_KEY) is not the key" in failed.stderr
    daemon.extra_env["TALLY_VAULT_KEY"] = right.strip()
    daemon.start(ready=False)
    assert not file.exists()
    assert right.strip() not in daemon.log.read_text()


def test_a_key_file_that_others_may_read_stops_the_start(make_daemon):
    daemon = make_daemon(env=ABSENT_NODE)
    daemon.folder.mkdir()
    file = daemon.folder / "vault.key"
    file.write_text("07" * 32)
    file.chmod(0o644)
    failed = daemon.command("run")
    assert (failed.returncode, "07" * 8 in failed.stderr) == (1, False)
    assert "can be read or written by others (mode 0644); chmod 600 it" in failed.stderr


def test_view_keys_are_revealed_where_the_operator_says_so(make_daemon):
    daemon = make_daemon(env={"TALLY_SERVER_REVEAL_VIEW_KEYS": "true"})
    _, revealed = run_and_give_keys(daemon)
    assert (revealed.xmrKeys.privViewKey, revealed.xmrKeys.pubSpendKey) == (VIEW, SPEND)
    log = daemon.log.read_text()
    assert "server.reveal_view_keys is on" in log
    assert VIEW[:16] not in log
