"""What a log line looks like, and what never gets into one."""

import io
import json
import logging
import os
import socket
import warnings
from pathlib import Path

import pytest

import daemon.logging as log_module
from daemon.config import Secret
from daemon.logging import configure, get_logger, on_journal
from daemon.redaction import is_hidden, redact, redact_text

# BIP 32's first test vector: published keys that hold nothing.
XPUB = (
    "xpub661MyMwAqRbcFtXgS5sYJABqqG9YLmC4Q1Rdap9gSE8NqtwybGhePY2gZ29ESFjqJoCu1Rupje8YtGqsefD265"
    "TMg7usUDFdp6W1EGMcet8"
)
XPRV = (
    "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3"
    "TGtRBeJgk33yuGBxrMPHi"
)


@pytest.fixture(autouse=True)
def restored_logging():
    """Each test's configuration ends with it."""
    root = logging.getLogger()
    before = (log_module._output, list(root.handlers), root.level)
    yield
    log_module._output, root.handlers[:], root.level = before
    logging.captureWarnings(capture=False)


@pytest.fixture
def lines():
    """Configure logging onto a text; the result reads its lines."""
    stream = io.StringIO()

    def read(**settings) -> list[str]:
        if settings:
            configure(stream=stream, environ={}, **settings)
        return stream.getvalue().splitlines()

    return read


def test_logfmt_line(lines):
    lines(level="info")
    get_logger("daemon.app", coin="btc").bind(height=7).info(
        "chain ready", peer=None, ok=True, share=0.5, file=Path("/a b"), raw=b"\x01\xff"
    )
    (line,) = lines()
    stamp, rest = line.split(" ", 1)
    assert rest == (
        'level=info logger=daemon.app event="chain ready" coin=btc height=7 peer=null ok=true '
        'share=0.5 file="/a b" raw=01ff'
    )
    assert len(stamp) == len("time=2026-01-01T00:00:00.000Z")


def test_json_line(lines):
    lines(format="json")
    get_logger("x").warning("é\u2028", amounts=[1, {"a": 2**70}], bad=float("nan"))
    (line,) = lines()
    assert line.isascii()
    record = json.loads(line)
    assert record.pop("time").endswith("Z")
    assert record == {
        "level": "warning",
        "logger": "x",
        "event": "é\u2028",
        "amounts": [1, {"a": 2**70}],
        "bad": "nan",
    }


def test_level_can_change_while_running(lines):
    stream = io.StringIO()
    output = configure(level="warning", stream=stream, environ={})
    log = get_logger("x")
    log.info("hidden")
    output.set_level("debug")
    log.debug("seen")
    assert "hidden" not in stream.getvalue()
    assert "event=seen" in stream.getvalue()
    assert output.statistics() == {"debug": 1, "info": 0, "warning": 0, "error": 0}


def test_a_logger_made_before_configure_follows_it(lines):
    log = get_logger("early")
    lines(level="info")
    log.info("hello")
    assert "logger=early event=hello" in lines()[0]


@pytest.mark.parametrize("format_", ["logfmt", "json"])
@pytest.mark.parametrize(
    "hostile",
    [
        "a\nlevel=error event=forged",
        "a\r\n<0>forged",
        "\x1b[31mred",
        "\x85\u2028\u2029",
        "\u202egnp",
    ],
)
def test_a_value_can_not_forge_a_line_or_steer_a_terminal(lines, format_, hostile):
    lines(format=format_)
    get_logger("x").info(hostile, **{"value": hostile, hostile: 1})
    (line,) = lines()
    assert line.isprintable()


def test_a_field_can_not_take_the_place_of_the_lines_own(lines):
    lines(format="json")
    get_logger("x").info("real", level="y", time="never", logger="daemon")
    record = json.loads(lines()[0])
    assert (record["level"], record["level_"], record["time_"]) == ("info", "y", "never")


def test_an_exception_is_one_line(lines):
    lines(format="json")
    log = get_logger("x")
    failure = ValueError(f"bad\n{XPRV}")
    try:
        raise failure
    except ValueError:
        log.exception("failed")
    log.error("failed later", exc_info=failure)
    for line in lines():
        record = json.loads(line)
        assert record["level"] == "error"
        assert record["error"].startswith("ValueError: bad\n***")
        assert "test_logging.py" in record["traceback"]
        assert XPRV not in line
    assert len(lines()) == 2


def test_standard_library_loggers_take_the_same_way(lines):
    lines(level="info")
    logging.getLogger("bip_utils").info("to %s", "head")
    logging.getLogger("hypercorn.access").info("GET http://u:p@h")
    logging.getLogger("sqlalchemy.engine").error("password='x y'")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("careful", stacklevel=1)
    alembic, sql, warning = lines()
    assert 'level=info logger=bip_utils event="to head"' in alembic
    assert 'event="password=***"' in sql
    assert "logger=py.warnings" in warning
    configure(stream=io.StringIO(), environ={})
    logging.getLogger("alembic").error("elsewhere")
    assert len(lines()) == 3, "the newer output replaces the older"


def test_journal_is_recognised_and_gets_priorities_without_times(tmp_path):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs, ours.makefile("w", encoding="utf-8") as stream:
        status = os.fstat(ours.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert on_journal(stream, environ)
        assert not on_journal(stream, {"JOURNAL_STREAM": "1:2"})
        assert not on_journal(stream, {})
        assert not on_journal(io.StringIO(), environ)
        configure(level="debug", stream=stream, environ=environ)
        log = get_logger("x")
        log.debug("d")
        log.info("i")
        log.warning("w")
        log.error("e")
        got = theirs.recv(4096).decode().splitlines()
        while len(got) < 4:
            got += theirs.recv(4096).decode().splitlines()
        assert got == [
            "<7>level=debug logger=x event=d",
            "<6>level=info logger=x event=i",
            "<4>level=warning logger=x event=w",
            "<3>level=error logger=x event=e",
        ]
        file = configure(file=tmp_path / "log", stream=stream, environ=environ)
        with file:
            log.info("to the file")
        assert (tmp_path / "log").read_text().startswith("time="), "a file has no journal's clock"


def test_log_file_is_opened_anew_after_rotation(tmp_path):
    path = tmp_path / "tallyd.log"
    with configure(file=path, environ={}) as output:
        log = get_logger("x")
        log.info("one")
        path.rename(tmp_path / "tallyd.log.1")
        log.info("two")
        output.reopen()
        log.info("three")
    assert "event=two" in (tmp_path / "tallyd.log.1").read_text()
    assert [line.split("event=")[1] for line in path.read_text().splitlines()] == ["three"]
    assert path.stat().st_mode & 0o007 == 0
    path.unlink()
    (tmp_path / "gone").mkdir()
    with configure(file=tmp_path / "gone" / "log", environ={}) as output:
        (tmp_path / "gone" / "log").rename(tmp_path / "moved")
        (tmp_path / "gone").rmdir()
        with pytest.raises(FileNotFoundError):
            output.reopen()
        log.info("still here")
    assert "still here" in (tmp_path / "moved").read_text()


def test_an_output_that_can_not_be_written_is_counted_not_raised():
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w", encoding="utf-8")
    output = configure(stream=stream, environ={})
    get_logger("x").info("into a closed pipe")
    assert output.statistics()["lost"] == 1
    with pytest.raises(BrokenPipeError):
        stream.close()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:pass@h:1/p", "http://***@h:1/p"),
        (
            "see postgresql+psycopg://u:p/w@rd@db:5432/n now",
            "see postgresql+psycopg://***@db:5432/n now",
        ),
        ("redis://token@h/0", "redis://***@h/0"),
        ("http://h:8332/x", "http://h:8332/x"),
        (f"key {XPUB}.", "key ***."),
        (f"'{XPRV}'", "'***'"),
        ("zpub6o5L7tQbC4zavTL1Lzq1eg", "***"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: ***"),
        ("{'authorization': 'Bearer abcdefgh'}", "{'authorization': '***'}"),
        ("sent bearer abc.def-ghi_jkl", "sent bearer ***"),
        ("password=hunter2, user=x", "password=***, user=x"),
        ("rpcpassword: 'a b' x", "rpcpassword: *** x"),
        ("{'view_key': 'aa55', 'n': 1}", "{'view_key': ***, 'n': 1}"),
        ('{"api_key":"aa55"}', '{"api_key":***}'),
        ("bc1q" + "q" * 38, "bc1q" + "q" * 38),
        ("00" * 32, "00" * 32),
        (f"keys {'0a' * 32}:{'Bc' * 32}!", "keys ***!"),
        (f"output {'0a' * 32}:1", f"output {'0a' * 32}:1"),
        (
            "74xhb5sXRsnDZv8RKFEv7LAMfUq5AmGEEB77SVvsUJf8bLvFMSEfc8YYyJHF6xNNnjAZQmgqZp76AjT8bD6qKkLZLeR42oi",
        )
        * 2,
    ],
)
def test_redaction_by_look(text, shown):
    assert redact_text(text) == shown


@pytest.mark.parametrize(
    "name",
    [
        "pass",
        "btc_daemon_pass",
        "Password",
        "rpcPassword",
        "client_secret",
        "token",
        "api_key",
        "api-key",
        "Authorization",
        "privViewKey",
        "view_key",
        "masterPubKey",
        "xpub",
        "key",
        "cookie",
    ],
)
def test_redaction_by_name(name):
    assert is_hidden(name)
    assert redact("outer", {name: "visible"}) == {name: "***"}
    assert redact(name, ["visible"]) == "***"
    assert redact(name, None) is None


@pytest.mark.parametrize(
    "name", ["cookie_file", "token_contract", "idempotency_key", "passed", "coin", "key_count"]
)
def test_harmless_names_stay(name):
    assert redact(name, "visible") == "visible"


def test_redaction_reaches_everywhere(lines):
    lines(format="logfmt")
    log = get_logger("x")
    event = f"event {XPUB}"
    log.info(event, a={"b": [("c", XPRV)]}, url="http://u:p4ssw0rd@h", s=Secret("p4ss"))
    log.info("deep", a=[[[[[[XPRV]]]]]], error=RuntimeError(XPRV))
    text = "\n".join(lines())
    assert XPUB not in text
    assert XPRV not in text
    assert "p4ss" not in text


@pytest.mark.parametrize("at", range(0, 9000, 450))
def test_shortening_a_text_leaves_no_half_of_a_key(at):
    filler = "- " * 10_000
    for offset in range(0, 120, 30):
        where = at + offset
        text = redact_text(filler[:where] + " " + XPRV + " " + filler[where:])
        assert XPRV[:20] not in text
        assert XPRV[-20:] not in text
        assert len(text) < 17_000


def test_hostile_texts_cost_no_more_than_their_length():
    """Quadratic behaviour would show as a test that never ends."""
    for text in ("a://" * 50_000, "password" * 20_000, "a:" * 50_000 + "@" * 50_000, "x" * 10**6):
        assert len(redact_text(text)) < 200_000
