"""What the configuration says of access, and what a start makes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from actors.access import mint
from actors.access_book import Act, Scope
from actors.gate import ANYBODY
from actors.ports import PersistentError
from daemon.admission import open_gate
from daemon.config import ConfigError, Flags, load_config
from daemon.logging import get_logger
from daemon.redaction import redact_text
from daemon.store import MemoryStore
from tests.helpers.recording_log import RecordingLog


def load(tmp_path, text=None, **environ):
    flags = Flags()
    if text is not None:
        file = tmp_path / "tallyd.yml"
        file.write_text(text)
        flags = Flags(config=file)
    return load_config(flags, environ={"STATE_DIRECTORY": str(tmp_path), **environ})


@pytest.mark.parametrize(
    ("text", "environ", "anonymous"),
    [
        (None, {}, True),
        ("mode: prod", {}, False),
        ("access: {anonymous: loopback}", {}, True),
        ("access: {anonymous: off}", {}, False),
        (None, {"TALLY_ACCESS_ANONYMOUS": "off"}, False),
    ],
)
def test_anonymous_callers_are_let_in_without_a_file_or_on_its_word(
    tmp_path, text, environ, anonymous
):
    assert load(tmp_path, text, **environ).access.anonymous is anonymous


def mtls(tmp_path, subjects):
    for name in ("cert", "key", "ca"):
        (tmp_path / name).touch()
    return (
        "server: {tls: {mode: mtls, cert: cert, key: key, client_ca: ca}}\n"
        f"access:\n  mtls_subjects: {subjects}\n"
    )


@pytest.mark.parametrize(
    ("subjects", "found"),
    [
        ('"write:shop"', (("shop", ("write",)),)),
        (
            '["read+write:CN=shop,O=Example", "admin:*"]',
            (("CN=shop,O=Example", ("read", "write")), (ANYBODY, ("admin",))),
        ),
        ('"read:CN=a,OU=read b, admin:b"', (("CN=a,OU=read b", ("read",)), ("b", ("admin",)))),
    ],
)
def test_subjects(tmp_path, subjects, found):
    assert load(tmp_path, mtls(tmp_path, subjects)).access.subjects == found


@pytest.mark.parametrize(
    ("subjects", "says"),
    [
        ("shop", "such as write:shop"),
        ("root:shop", "the scopes are read, write and admin"),
        ('"read:"', "such as write:shop"),
        ('["read:a", "admin:a"]', "twice"),
    ],
)
def test_subjects_that_are_none(tmp_path, subjects, says):
    with pytest.raises(ConfigError, match=says):
        load(tmp_path, mtls(tmp_path, subjects))


def test_subjects_need_mutual_tls(tmp_path):
    with pytest.raises(ConfigError, match=r"needs server\.tls\.mode mtls, and that is none"):
        load(tmp_path, 'access: {mtls_subjects: "admin:*"}')


async def test_a_listener_that_stands_open_is_refused_until_there_is_a_key(tmp_path):
    store, log = MemoryStore(), RecordingLog()
    for name in ("server", "http"):
        config = load(tmp_path, f"{name}: {{host: 192.0.2.1}}\naccess: {{anonymous: loopback}}")
        with pytest.raises(PersistentError, match=rf"{name}\.host is 192\.0\.2\.1.*access add"):
            await open_gate(config, store, log=log)
    expired, _ = mint(name="a", scopes=["read"], expires_at_ms=11, now_ms=10)
    act = Act(at_ms=1, actor="cli", address="local", act="key.added", target="a")
    await store.add_api_key(expired, act)
    with pytest.raises(PersistentError):
        await open_gate(config, store, log=log)
    key, _ = mint(name="a", scopes=["read"], now_ms=10)
    await store.add_api_key(key, act)
    assert (await open_gate(config, store, log=log)).has_key
    assert log.lines == []


async def test_certificates_are_a_way_in_by_grpc_but_not_by_http(tmp_path):
    config = load(tmp_path, mtls(tmp_path, '"read:shop"'))
    far = replace(config, server=replace(config.server, host="192.0.2.1"))
    gate = await open_gate(far, MemoryStore(), log=get_logger("t"))
    assert gate.rules.subjects == {"shop": {Scope.READ}}
    far = replace(config, http=replace(config.http, host="192.0.2.1"))
    with pytest.raises(PersistentError, match=r"http\.host"):
        await open_gate(far, MemoryStore(), log=get_logger("t"))


async def test_it_is_said_when_nobody_could_come_in(tmp_path):
    log = RecordingLog()
    await open_gate(load(tmp_path, "mode: prod"), MemoryStore(), log=log)
    (line,) = log.of("nobody can use the APIs")
    assert "access.anonymous" in line.event
    log = RecordingLog()
    await open_gate(load(tmp_path), MemoryStore(), log=log)
    assert log.lines == []


def test_api_keys_are_taken_out_of_what_is_logged():
    _, token = mint(name="a", scopes=["read"], now_ms=10)
    shown = redact_text(f"what is {token}, and {token}?")
    assert token.rpartition("_")[2] not in shown
    assert f"tk_{token[3:11]}_***" in shown
