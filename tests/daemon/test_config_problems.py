"""What is refused in a configuration, and in which words."""

import re
import sys

import pytest

from daemon.config import ConfigError, Flags, load_config


@pytest.fixture
def report(tmp_path):
    """The problems of a configuration text as lines, the file's name shortened to F."""

    def run(text=None, env=None, **flags) -> list[str]:
        if text is not None:
            flags["config"] = tmp_path / "tallyd.yml"
            data = text if isinstance(text, bytes) else text.encode()
            flags["config"].write_bytes(data)
        with pytest.raises(ConfigError) as caught:
            load_config(Flags(**flags), environ={"HOME": str(tmp_path), **(env or {})})
        assert len(str(caught.value).splitlines()) == len(caught.value.problems) + 1
        return [
            str(problem).replace(str(tmp_path / "tallyd.yml"), "F")
            for problem in caught.value.problems
        ]

    return run


def test_everything_wrong_is_in_one_report(report):
    lines = report(
        "server:\n  prot: 3000\n  host: ${SERVER_HOST}\nhttp:\n  port: 80 80\nlogs:\n  level: x\n",
        {"SERVER_HOST": "http://x", "MODE": "test"},
        log_level="loud",
    )
    assert lines == [
        "F:2:3: server.prot: unknown setting; did you mean port?",
        "F:6:1: logs: unknown setting; did you mean log?",
        'environment MODE: mode: write one of prod, dev (it is "test")',
        (
            "environment SERVER_HOST: server.host: write only a host name or an address, such as "
            '127.0.0.1 or ::1 (it is "http://x")'
        ),
        (
            "F:5:9: http.port: write a whole decimal number from 0 to 65535, digits only "
            '(it is "80 80")'
        ),
        'flag -log-level: log.level: write one of debug, info, warning, error (it is "loud")',
    ]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("Server: {}\n", "F:1:1: Server: unknown setting; did you mean server?"),
        ("coin: {bct: {}}\n", "coin.bct: unknown setting; did you mean btc?"),
        ("coins: {btc: {}}\n", "did you mean coin?"),
        ("coin: {btc: {url: x}}\n", "did you mean coin.btc.daemon.url"),
        ("database_url: x\n", "did you mean database.url?"),
        ("database: {password: x}\n", "did you mean pass?"),
        ("xyzzy: 1\n", "known here: mode, "),
        ("server: {'a\\nb\\x1b': 1}\n", r"server.a\nb\x1b: unknown setting"),
        ('server: {"a\\nb\\x1b": 1}\n', "server.a?b?: unknown setting"),
        ("<<: {}\n", "<<: unknown setting"),
    ],
)
def test_nearest_right_name(report, text, hint):
    (line,) = report(text)
    assert hint in line


@pytest.mark.parametrize("port", ["0o17", "0x10", "010", "1_000", "3e3", "1:30", "-1", "65536"])
def test_yaml_guesses_are_no_numbers(report, port):
    (line,) = report(f"http:\n  port: {port}\n")
    assert line.startswith("F:2:9: http.port: write a whole decimal number")
    assert f'"{port}"' in line


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "True", "1"])
def test_yaml_guesses_are_no_switches(report, word):
    (line,) = report(f"server:\n  reflection: {word}\n")
    assert "write true or false" in line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server:\n\thost: x\n", "F:2:1: is not valid YAML: indent with spaces, not with tabs"),
        ("server: {host: ${SERVER_HOST}, port: 1}\n", 'write variables in quotes: "${NAME}"'),
        ("database:\n  pass: %abc\n", "F:2:9: is not valid YAML: put this value in quotes"),
        ("database:\n  pass: @abc\n", "put this value in quotes"),
        ("database:\n  pass: *abc\n", 'F:2:9: a value that begins with * needs quotes: "*…"'),
        ("database:\n  pass: &abc\n", 'a value that begins with & needs quotes: "&…"'),
        ("database:\n  pass: !abc\n", 'a value that begins with ! needs quotes: "!…"'),
        ("database:\n  pass: !!int 5\n", 'a value that begins with ! needs quotes: "!…"'),
        ("database:\n  pass: a: b\n", "F:2:10: is not valid YAML: check indentation"),
        (
            "http: {port: 1}\nhttp: {port: 2}\n",
            "F:2:1: http: is set twice; the first time on line 1",
        ),
        ("http: {port: 1, port: 2}\n", "http.port: is set twice"),
        ("---\nhttp: {}\n---\nhttp: {}\n", "F:3:1: starts a second YAML document"),
        ("just words\n", "F:1:1: must hold settings such as `server:` at its top"),
        ("- a\n", "must hold settings"),
        ("server: 3000\n", "F:1:9: server: is a group: write its settings below it (host, port,"),
        ("server: [a]\n", "server: is a group"),
        ("http: {port: [1]}\n", "http.port: takes one value, not a list or a group"),
        ("http: {port: {a: 1}}\n", "http.port: takes one value, not a list or a group"),
        ("http: {[a]: 1}\n", "F:1:8: http: a setting's name must be a plain word"),
        ("server: {tls: {client_ca: [[a]]}}\n", "takes a list of plain values"),
        ("http:\n  port: ${A B}\n", "http.port: write ${NAME} or ${NAME:-default}"),
        ("http:\n  host: a${\n", "http.host: write ${NAME} or ${NAME:-default}"),
        ("http:\n  host: ${}\n", "http.host: write ${NAME} or ${NAME:-default}"),
        (
            "coin:\n  btc:\n    daemon:\n      user: |\n        a\n        b\n",
            "user: holds a line break",
        ),
        (b"http:\n  host: \xff\n", "F:2: is not UTF-8 text"),
        ("http:\n  host: a\x07\n", "F:2: holds a control character"),
        ("[" * 50_000, "F:1:17: is nested deeper than 16 levels"),
        ("#" * (1024 * 1024 + 1), "F: is larger than 1048576 bytes"),
    ],
)
def test_form_of_the_file(report, text, message):
    limit = sys.getrecursionlimit()
    (line,) = report(text)
    assert message in line
    assert sys.getrecursionlimit() == limit


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for file, reason in ((tmp_path / "none.yml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError, match=f"{re.escape(str(file))}: can not be read: {reason}"):
            load_config(Flags(config=file), environ={"HOME": "/h"})


SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    ("text", "env", "message"),
    [
        ("", {"BTC_DAEMON_URL": f"user:{SECRET}@h:1"}, "write a whole http or https URL"),
        ("", {"BTC_DAEMON_URL": f"http://u:{SECRET}@h:99999"}, "no URL with a valid port"),
        ("", {"BTC_DAEMON_URL": f"http://u:#{SECRET}@h"}, "no URL with a valid port|#fragment"),
        (
            "",
            {"TON_DAEMON_URL": f"http://:{SECRET}@h", "TALLY_TON_DAEMON_API_KEY": SECRET},
            "and a key in coin.ton.daemon.url are both set: keep only one",
        ),
        ("", {"TALLY_DATABASE_URL": f"mysql://u:{SECRET}@h/n"}, "only sqlite"),
        ("", {"TALLY_DATABASE_URL": f"postgresql://u:{SECRET}@h"}, "it names no database"),
        ("", {"TALLY_DATABASE_URL": f"postgresql://u:{SECRET}@h:x/n"}, "no URL with a valid port"),
        ("", {"TALLY_DATABASE_URL": SECRET}, "write a URL such as sqlite:////"),
        ("", {"TALLY_DATABASE_URL": "sqlite://"}, "would forget every payment"),
        ("", {"TALLY_DATABASE_URL": "sqlite:///:memory:"}, "would forget every payment"),
        ("", {"DATABASE_PASS": f"{SECRET}\n", "DATABASE_HOST": "h"}, "holds a line break"),
        (f"database:\n  pass: {SECRET}: x\n", {}, "is not valid YAML"),
        (f"database:\n  pass: *{SECRET}\n", {}, "needs quotes"),
        (f"database:\n  pass: &{SECRET} x\n", {}, "needs quotes"),
        (f"database:\n  pass: [{SECRET}]\n", {}, "takes one value"),
        (f"database:\n  pass: '{SECRET}\n", {}, "is not valid YAML"),
    ],
)
def test_a_refusal_never_repeats_a_secret(report, text, env, message):
    lines = "\n".join(report(text, env))
    assert re.search(message, lines), lines
    assert "hunter2" not in lines


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"SERVER_TLS_MODE": "ssl"}, "server.tls.mode: write one of none, tls, mtls"),
        ({"SERVER_TLS_MODE": "tls"}, "server.tls.cert: is needed when server.tls.mode is tls"),
        ({"SERVER_TLS_MODE": "mtls"}, "server.tls.client_ca: is needed when server.tls.mode"),
        (
            {"SERVER_TLS_MODE": "tls", "SERVER_TLS_CERT": "/none.pem", "SERVER_TLS_KEY": "/"},
            "environment SERVER_TLS_CERT: server.tls.cert: /none.pem can not be read: No such file",
        ),
        ({"TALLY_HTTP_PORT": "3000"}, "http.port: is the same as server.port (3000)"),
        ({"DATABASE_NAME": "n"}, "database.host: is needed because database.name is set"),
        ({"DATABASE_HOST": "h"}, "database.name: is needed because database.host is set"),
        ({"DATABASE_HOST": "h/evil@x"}, "database.host: write only a host name"),
        (
            {"BTC_DAEMON_URL": "http://u@h", "TALLY_BTC_COOKIE_FILE": "/c"},
            "coin.btc.cookie_file: and a user or password are both set",
        ),
        (
            {"BTC_DAEMON_URL": "http://h", "BTC_DAEMON_PASS": "x"},
            "coin.btc.daemon.user: is needed because coin.btc.daemon.pass is set",
        ),
        (
            {"BTC_DAEMON_URL": "http://h", "TALLY_BTC_ZMQ_RAWTX": "ipc://x"},
            "coin.btc.zmq.rawtx: write an endpoint such as tcp://",
        ),
        (
            {
                "BTC_DAEMON_URL": "http://h",
                "TALLY_BTC_ZMQ": "off",
                "TALLY_BTC_ZMQ_RAWTX": "tcp://127.0.0.1:1",
            },
            "coin.btc.zmq: is off, but coin.btc.zmq.rawtx is set",
        ),
        ({"TALLY_BTC_POLL_INTERVAL_S": "30s"}, "write seconds as a number from 0.1 to 3600"),
        ({"TALLY_BTC_POLL_INTERVAL_S": "nan"}, "write seconds as a number"),
        ({"TALLY_BTC_REORG_LIMIT": "0"}, "coin.btc.reorg_limit: write a whole decimal number"),
        ({"TALLY_LOG_FORMAT": "xml"}, "log.format: write one of logfmt, json"),
    ],
)
def test_values_and_their_combinations(report, env, message):
    lines = report(env=env)
    assert any(message in line for line in lines), lines


def test_unreadable_credentials_are_named(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_config(environ={"HOME": "/h", "CREDENTIALS_DIRECTORY": str(tmp_path / "none")})
    lines = str(caught.value)
    assert "$CREDENTIALS_DIRECTORY" in lines
    assert "No such file" in lines


@pytest.mark.parametrize(
    "text",
    [
        "pay.example.org",
        "ftp://pay.example.org",
        "https://",
        "https://pay.example.org/shop",
        "https://pay.example.org?",
        "https://pay.example.org/#",
        "https://user@pay.example.org",
        "https://pay.example.org:",
        "https://pay.example.org:0443",
        "https://pay.example.org:99999",
        "https://pay_example.org",
        "https://pay example.org",
        "https://b\u00fccher.example",
        "https://pay.example.org\\@evil.example",
        "javascript:alert(1)",
    ],
)
def test_a_public_url_is_the_root_of_a_host(report, text):
    (line,) = report(env={"TALLY_HTTP_PUBLIC_URL": text})
    assert line.startswith("environment TALLY_HTTP_PUBLIC_URL: http.public_url: ")
    assert "such as https://pay.example.org" in line
