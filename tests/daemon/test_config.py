"""What the configuration is, given files, variables, credentials and flags."""

import argparse
import copy
import pickle
from ipaddress import ip_network
from pathlib import Path

import pytest

from daemon.catalogue import load_table
from daemon.config import (
    Config,
    ConfigError,
    Flags,
    LogFormat,
    NodeUrl,
    Secret,
    TlsMode,
    add_flags,
    create_state_dir,
    flags_from,
    load_config,
    reloadable_changes,
)
from daemon.config.settings import SettingTable

GOIPAY_YML = """\
server:
  host: ${SERVER_HOST}
  port: ${SERVER_PORT}
  tls:
    mode: ${SERVER_TLS_MODE}
    ca: ${SERVER_TLS_CA}
    cert: ${SERVER_TLS_CERT}
    key: ${SERVER_TLS_KEY}
database:
  host: ${DATABASE_HOST}
  port: ${DATABASE_PORT}
  user: ${DATABASE_USER}
  pass: ${DATABASE_PASS}
  name: ${DATABASE_NAME}
coin:
  xmr: {daemon: {url: "${XMR_DAEMON_URL}", user: "${XMR_DAEMON_USER}", pass: "${XMR_DAEMON_PASS}"}}
  btc:
    daemon:
      url: ${BTC_DAEMON_URL}
      user: ${BTC_DAEMON_USER}
      pass: ${BTC_DAEMON_PASS}
  ltc:
    daemon:
      url: ${LTC_DAEMON_URL}
  eth:
    daemon:
      url: ${ETH_DAEMON_URL}
  bnb:
    daemon:
      url: ${BNB_DAEMON_URL}
"""
GOIPAY_ENV = {
    "SERVER_HOST": "localhost",
    "SERVER_PORT": "3001",
    "SERVER_TLS_MODE": "none",
    "DATABASE_HOST": "db",
    "DATABASE_PORT": "5433",
    "DATABASE_USER": "postgres",
    "DATABASE_PASS": "p@ss/w:rd",
    "DATABASE_NAME": "goipay_db",
    "XMR_DAEMON_URL": "",
    "XMR_DAEMON_USER": "",
    "BTC_DAEMON_URL": "http://localhost:38332",
    "BTC_DAEMON_USER": "user",
    "BTC_DAEMON_PASS": "hunter2hunter2",
}


@pytest.fixture
def load(tmp_path):
    """Load a configuration from a text, variables and flags, in an empty home."""

    def run(text=None, env=None, **flags) -> Config:
        if text is not None:
            flags["config"] = tmp_path / "tallyd.yml"
            flags["config"].write_text(text, encoding="utf-8")
        environ = {"HOME": str(tmp_path / "home"), **(env or {})}
        return load_config(Flags(**flags), environ=environ)

    return run


def test_starts_without_any_file(load, tmp_path):
    config = load()
    assert (config.server.host, config.server.port) == ("127.0.0.1", 3000)
    assert (config.http.host, config.http.port) == ("127.0.0.1", 8080)
    assert config.server.tls.mode is TlsMode.NONE
    assert config.server.limits.message_bytes == 4 * 1024 * 1024
    assert config.state_dir == tmp_path / "home/.local/state/tallyd"
    assert config.database.url.reveal() == f"sqlite:///{config.state_dir}/tallyd.db"
    assert config.database.is_sqlite
    assert config.log.format is LogFormat.LOGFMT
    assert config.coins == {}
    assert not config.server.reflection
    assert any("BTC_DAEMON_URL" in warning for warning in config.warnings)
    assert not config.state_dir.exists(), "loading must not write"


@pytest.mark.parametrize("with_file", [True, False])
def test_goipay_env_works_with_goipays_file_and_without(load, with_file):
    config = load(GOIPAY_YML if with_file else None, GOIPAY_ENV)
    assert (config.server.host, config.server.port) == ("localhost", 3001)
    assert config.database.url.reveal() == (
        "postgresql+psycopg://postgres:p%40ss%2Fw%3Ard@db:5433/goipay_db"
    )
    assert list(config.coins) == ["btc"]
    btc = config.coins["btc"]
    assert btc.nodes == (NodeUrl("http://localhost:38332", "user", Secret("hunter2hunter2")),)
    assert btc.zmq.enabled
    assert btc.zmq.endpoints == {}
    assert (btc.reorg_limit, btc.settled_watch_depth, btc.confirmations) == (100, 100, 2)
    assert config.warnings == ()


def test_precedence_flag_environment_credential_file_default(load, tmp_path):
    text = "log:\n  level: error\n"
    assert load().log.level == "info"
    assert load(text).log.level == "error"
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "log_level").write_text("warning\n")
    env = {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert load(text, env).log.level == "warning"
    env["LOG_LEVEL"] = "debug"
    assert load(text, env).log.level == "debug"
    env["TALLY_LOG_LEVEL"] = "error"
    config = load(text, env)
    assert config.log.level == "error"
    assert config.settings["log.level"].source == "environment TALLY_LOG_LEVEL"
    assert load(text, env, log_level="warn").log.level == "warning"


def test_a_variable_beats_what_the_file_writes_out(load):
    assert load("server: {port: 3005}\n", {"SERVER_PORT": "3006"}).server.port == 3006
    assert load("server: {port: '${OTHER}'}\n", {"OTHER": "3007"}).server.port == 3007
    text = "server: {port: '${OTHER}'}\n"
    assert load(text, {"OTHER": "3007", "SERVER_PORT": "3006"}).server.port == 3006


@pytest.mark.parametrize("empty", ["", "~", "null", "''", "${NOT_SET}", "${NOT_SET:-}"])
def test_what_is_empty_counts_as_unset(load, empty):
    config = load(f"server:\n  port: {empty}\n", {"SERVER_PORT": ""})
    assert config.server.port == 3000
    assert config.settings["server.port"].source == "default"


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${P}", "found"),
        ("a${P}b${P}", "afoundbfound"),
        ("${NOT_SET:-else}", "else"),
        ("${EMPTY:-else}", "else"),
        ("${P:-else}", "found"),
        ("'$${P}'", "${P}"),
        ("'pa$word$'", "pa$word$"),
        ("'$P'", "$P"),
        ("${NESTED}", "${P}"),
        ("'yes'", "yes"),
        ("no", "no"),
        ("0123", "0123"),
        ("1_000", "1_000"),
        ("'#hash'", "#hash"),
        ('"&anchor"', "&anchor"),
    ],
)
def test_texts_stay_as_written_but_for_variables(load, written, value):
    text = (
        f"coin:\n  btc:\n    daemon:\n      url: http://h\n      user: u\n      pass: {written}\n"
    )
    config = load(text, {"P": "found", "EMPTY": "", "NESTED": "${P}"})
    password = config.coins["btc"].node.password
    assert password is not None
    assert password.reveal() == value


def test_credentials_fill_secrets_and_name_files(load, tmp_path):
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "btc_daemon_pass").write_text("from a file\n")
    (folder / "database_url").write_text("postgresql://u:p@h/n")
    (folder / "server_tls_key").write_text("PEM\n")
    (folder / "btc_daemon_pas").write_text("x")
    (tmp_path / "cert.pem").write_text("PEM")
    config = load(
        "server: {tls: {mode: tls, cert: cert.pem}}\n"
        "coin: {btc: {daemon: {url: 'http://h:1', user: u, pass: other}}}\n",
        {"CREDENTIALS_DIRECTORY": str(folder)},
    )
    assert config.coins["btc"].node.password == Secret("from a file")
    assert config.database.url.reveal() == "postgresql+psycopg://u:p@h/n"
    assert config.server.tls.key == folder / "server_tls_key"
    assert config.server.tls.cert == tmp_path / "cert.pem", "relative to the file's folder"
    assert any("did you mean btc_daemon_pass?" in warning for warning in config.warnings)


def test_paths_from_the_environment_start_at_the_working_directory(load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    config = load(env={"TALLY_LOG_FILE": "a.log", "SERVER_TLS_CA": "~/ca.pem"})
    assert config.log.file == tmp_path / "a.log"
    assert config.settings["server.tls.ca"].value == Path("/home/someone/ca.pem")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgres://u:p@h:1/n", "postgresql+psycopg://u:p@h:1/n"),
        ("postgresql://h/n?sslmode=require", "postgresql+psycopg://h/n?sslmode=require"),
        ("postgresql+psycopg://h/n", "postgresql+psycopg://h/n"),
        ("sqlite:////var/lib/a.db", "sqlite:////var/lib/a.db"),
        ("sqlite:///a.db", "sqlite:///{here}/a.db"),
    ],
)
def test_database_urls(load, tmp_path, url, expected):
    config = load(f"database: {{url: '{url}'}}\n")
    assert config.database.url.reveal() == expected.format(here=tmp_path)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("::1", "postgresql+psycopg://u@[::1]:5432/n"),
        ("[::1]", "postgresql+psycopg://u@[::1]:5432/n"),
        ("/run/pg", "postgresql+psycopg://u@/n?host=%2Frun%2Fpg&port=5432"),
    ],
)
def test_database_hosts(load, host, expected):
    env = {"DATABASE_HOST": host, "DATABASE_NAME": "n", "DATABASE_USER": "u"}
    assert load(env=env).database.url.reveal() == expected


def test_database_url_wins_over_the_parts_with_a_warning(load):
    config = load("database: {url: 'sqlite:////a/b.db'}\n", {"DATABASE_HOST": "db"})
    assert config.database.is_sqlite
    assert any("database.host are ignored" in warning for warning in config.warnings)


def test_user_and_password_inside_a_node_url(load):
    btc = load(env={"BTC_DAEMON_URL": "http://al%40ice:s%2Fecret@h:8332/wallet"}).coins["btc"]
    assert btc.nodes == (NodeUrl("http://h:8332/wallet", "al@ice", Secret("s/ecret")),)
    assert btc.display == "http://h:8332"


def test_zmq_settings(load):
    base = "coin:\n  btc:\n    daemon: {url: 'http://h:1'}\n    zmq: "
    assert not load(base + "off\n").coins["btc"].zmq.enabled
    assert load(base + "auto\n").coins["btc"].zmq.endpoints == {}
    zmq = load(base + "{rawtx: 'tcp://127.0.0.1:28332'}\n").coins["btc"].zmq
    assert zmq.enabled
    assert zmq.endpoints == {"rawtx": "tcp://127.0.0.1:28332"}


def test_mtls_takes_authorities_from_a_list_a_text_or_the_flag(load, tmp_path):
    for name in ("c.pem", "k.pem", "a.pem", "b.pem"):
        (tmp_path / name).write_text("PEM")
    text = "server:\n  tls:\n    mode: mtls\n    cert: c.pem\n    key: k.pem\n"
    expected = (tmp_path / "a.pem", tmp_path / "b.pem")
    assert load(text + "    client_ca: [a.pem, b.pem]\n").server.tls.client_ca == expected
    assert load(text + "    client_ca: a.pem, b.pem\n").server.tls.client_ca == expected
    flag = f"{tmp_path}/a.pem,{tmp_path}/b.pem"
    assert load(text, client_ca=flag).server.tls.client_ca == expected


@pytest.mark.parametrize(
    ("text", "env", "flag", "expected"),
    [
        ("mode: dev\n", {}, None, True),
        ("mode: prod\n", {}, None, False),
        ("mode: prod\n", {}, True, True),
        ("mode: dev\n", {}, False, False),
        ("mode: dev\nserver: {reflection: false}\n", {}, None, False),
        ("server: {reflection: true}\n", {}, None, True),
        ("", {"MODE": "dev"}, None, True),
    ],
)
def test_reflection(load, text, env, flag, expected):
    assert load(text, env, reflection=flag).server.reflection is expected


def test_listening_beyond_loopback_without_tls_warns(load):
    config = load("server: {host: 0.0.0.0}\nhttp: {host: '::'}\n")
    assert any("gRPC listens on 0.0.0.0 without TLS" in warning for warning in config.warnings)
    assert any("HTTP listens on ::" in warning for warning in config.warnings)
    assert not any("without TLS" in w for w in load("server: {host: '[::1]'}\n").warnings)


def test_secrets_can_not_be_seen(load):
    config = load(env=GOIPAY_ENV | {"LTC_DAEMON_URL": "http://u:sesame1234@h:1/apikey99"})
    btc = config.coins["btc"]
    seen = f"{config!r} {config} {btc} {btc.node} {btc.node!r} {config.settings!r}"
    seen += f" {config.database.display} {config.coins['ltc'].display} {config.warnings}"
    for secret in ("hunter2", "p@ss", "p%40ss", "sesame", "apikey99"):
        assert secret not in seen
    assert config.database.display == "postgresql+psycopg://db:5433/goipay_db"
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(btc.node.password)
    with pytest.raises(TypeError, match="pickled"):
        copy.deepcopy(btc.node.password)
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


def test_misspelt_variables_are_named(load):
    config = load(env={"TALLY_HTP_PORT": "1", "TALLYX": "1"})
    (warning,) = [w for w in config.warnings if "TALLY_HTP_PORT" in w]
    assert "did you mean TALLY_HTTP_PORT?" in warning


def test_state_folder_choices(load, tmp_path):
    assert load(env={"STATE_DIRECTORY": "/var/lib/a:/b"}).state_dir == Path("/var/lib/a")
    assert load(env={"XDG_STATE_HOME": "/xdg"}).state_dir == Path("/xdg/tallyd")
    home = tmp_path / "home/.local/state/tallyd"
    assert load(env={"XDG_STATE_HOME": "relative"}).state_dir == home
    with pytest.raises(ConfigError, match="STATE_DIRECTORY"):
        load(env={"HOME": ""})


def test_state_folder_is_private(tmp_path):
    folder = tmp_path / "a/b/tallyd"
    create_state_dir(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o750)
    create_state_dir(folder)
    assert folder.stat().st_mode & 0o777 == 0o750
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="can not be made"):
        create_state_dir(tmp_path / "file/tallyd")


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], Flags()),
        (["-config", "a.yml"], Flags(config=Path("a.yml"))),
        (["--config=a.yml", "run"], Flags(config=Path("a.yml"))),
        (["run", "-config=a.yml", "-reflection"], Flags(config=Path("a.yml"), reflection=True)),
        (["-reflection", "run"], Flags(reflection=True)),
        (["-reflection=true", "run"], Flags(reflection=True)),
        (["run", "--reflection=false"], Flags(reflection=False)),
        (["-log-level", "debug", "run", "-client-ca", "a,b"], Flags(None, "a,b", None, "debug")),
    ],
)
def test_flags_in_gos_way_and_ours(argv, expected):
    parser = argparse.ArgumentParser()
    add_flags(parser)
    add_flags(parser.add_subparsers().add_parser("run"))
    assert flags_from(parser.parse_args(argv)) == expected


def test_config_variable_names_the_file(load, tmp_path):
    (tmp_path / "x.yml").write_text("http: {port: 9}\n")
    config = load(env={"TALLY_CONFIG": str(tmp_path / "x.yml")})
    assert config.http.port == 9
    assert config.file == tmp_path / "x.yml"
    assert config.warnings[0].startswith("no coin"), "TALLY_CONFIG is a known name"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://pay.example.org", "https://pay.example.org"),
        ("https://Pay.example.org/", "https://pay.example.org"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
    ],
)
def test_public_urls(load, text, expected):
    assert load(env={"TALLY_HTTP_PUBLIC_URL": text}).http.public_url == expected


def test_without_a_public_url_there_is_none(load):
    assert load().http.public_url is None


def test_no_proxy_is_trusted_but_those_that_are_named(load):
    assert load().http.trusted_proxies == ()
    found = load(env={"TALLY_HTTP_TRUSTED_PROXIES": "127.0.0.1, fd00::/8"}).http.trusted_proxies
    assert found == (ip_network("127.0.0.1/32"), ip_network("fd00::/8"))


def test_reload_says_what_applies_now_and_what_needs_a_restart(load):
    old = load("log: {level: info}\nhttp: {port: 8080}\n", {"BTC_DAEMON_PASS": "a"})
    new = load("log: {level: debug}\nhttp: {port: 8081}\n", {"BTC_DAEMON_PASS": "b"})
    plan = reloadable_changes(old, new)
    assert set(plan.live) == {"log.level", "coin.btc.daemon.pass"}
    assert plan.restart == ("http.port",)
    same = reloadable_changes(new, new)
    assert (same.live, same.restart) == ((), ())


def test_the_table_of_settings_is_consistent():
    table = SettingTable(load_table().chains.values())
    names = [name for setting in table.rows.values() for name in setting.env_names]
    assert len(set(names)) == len(names)
    assert len({setting.credential for setting in table.rows.values()}) == len(table.rows)
    assert table.rows["http.port"].env == "TALLY_HTTP_PORT"
    assert table.rows["coin.btc.daemon.pass"].credential == "btc_daemon_pass"
    assert {"server", "server.tls", "coin", "coin.btc", "coin.btc.daemon"} <= table.groups
    assert list(table.families) == ["btc", "ltc", "eth", "bnb", "xmr", "ton"]
