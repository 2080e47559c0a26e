"""Configuration: whatever is in file, environment and credentials, no secret is said."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from daemon.catalogue import load_table
from daemon.config import Config, ConfigError, Flags, load_config
from daemon.config.settings import SettingTable
from tests.fuzz.engine import Check, Target
from tests.fuzz.mutation import WORDS, as_json, mutated, mutated_text

SECRET = "Sesame-OpenUp-7c1e94"
TABLE = SettingTable(load_table().chains.values())
FILES = [
    f"""\
server:
  host: 127.0.0.1
  port: 3000
  tls: {{mode: none}}
  limits: {{message_bytes: 4194304, connections: 10}}
http: {{port: 8081, public_url: "https://pay.example", trusted_proxies: [127.0.0.1, "::1"]}}
access: {{anonymous: "off", rate_per_s: 10}}
database: {{url: "postgresql://tally:{SECRET}@db.example/tally"}}
log: {{level: info, format: json}}
""",
    f"""\
coin:
  btc:
    daemon: {{url: http://127.0.0.1:8332, user: tallyd, pass: {SECRET}}}
    zmq: {{enabled: true, endpoints: {{rawtx: tcp://127.0.0.1:28332}}}}
    reorg_limit: 100
  eth:
    daemon: {{url: ["https://x:{SECRET}@eth.example", "http://127.0.0.1:8545"]}}
    chain_id: 1
    finality: safe
  xmr: {{daemon: {{url: "http://u:{SECRET}@127.0.0.1:18081"}}, zmq_pub: tcp://127.0.0.1:18083}}
  ton: {{daemon: {{url: https://toncenter.example, api_key: {SECRET}}}, network: testnet}}
""",
    f"""\
database: {{host: db, port: 5432, user: tally, pass: "${{DB_PASS:-{SECRET}}}", name: tally}}
vault: {{key: {SECRET}}}
mode: dev
coin: {{btc: {{daemon: {{url: "${{BTC_URL}}", pass: "$${{x}}"}}}}}}
""",
]  # fmt: skip
ENVIRONS = {
    "TALLY_HTTP_PORT": "8080",
    "BTC_DAEMON_URL": "http://127.0.0.1:8332",
    "BTC_DAEMON_PASS": SECRET,
    "TALLY_DATABASE_URL": f"postgresql://u:{SECRET}@h/n",
    "TALLY_VAULT_KEY": SECRET,
    "DB_PASS": SECRET,
    "BTC_URL": f"http://u:{SECRET}@h:1",
    "TALLY_TON_DAEMON_API_KEY": SECRET,
    "TALLY_ETH_DAEMON_URL": f"https://u:{SECRET}@h",
    "SERVER_TLS_MODE": "mtls",
}


def spared(text: str, changed: str) -> str:
    """The changed text, if the secret in it is whole or nearly all gone."""
    return changed if SECRET in changed or SECRET[:6] not in changed else text


def drawn(dice: Random) -> bytes:
    """The file (latin-1), environment and credentials, as JSON."""
    file = dice.choice(FILES).encode()
    if dice.random() < 0.8:
        if dice.random() < 0.5:
            file = mutated_text(dice, file.decode(), others=FILES).encode("utf-8", "replace")
        else:
            file = mutated(dice, file, others=[one.encode() for one in FILES])
    environ = dict(dice.sample(sorted(ENVIRONS.items()), dice.choice((0, 1, 2, 5))))
    for row in dice.sample(list(TABLE.rows.values()), dice.choice((0, 1, 2))):
        environ[row.env_names[-1]] = dice.choice((*WORDS, "1", "true", "http://h", "a,b"))
    for name in list(environ):
        if dice.random() < 0.3:
            environ[name] = spared(environ[name], mutated_text(dice, environ[name]))
        environ[name] = environ[name].replace("\0", "").encode("utf-8", "replace").decode()[:4000]
    credentials = {
        row.credential: dice.choice((SECRET, "\n", "x" * 70_000, "\udcff"))
        for row in dice.sample(list(TABLE.rows.values()), dice.choice((0, 0, 1, 2)))
    }
    case = {"file": file.decode("latin-1"), "environ": environ, "credentials": credentials}
    return as_json(case)


@asynccontextmanager
async def loading() -> AsyncIterator[Check]:
    with tempfile.TemporaryDirectory() as folder:
        file, credentials = Path(folder, "tallyd.yml"), Path(folder, "credentials")

        async def check(data: bytes) -> None:
            _write(json.loads(data), file, credentials)
            environ = json.loads(data)["environ"]
            _load(file, {**environ, "CREDENTIALS_DIRECTORY": str(credentials)})

        yield check


def _write(case: dict[str, Any], file: Path, credentials: Path) -> None:
    file.write_bytes(case["file"].encode("latin-1"))
    shutil.rmtree(credentials, ignore_errors=True)
    credentials.mkdir()
    for name, text in case["credentials"].items():
        (credentials / name).write_text(text, errors="surrogateescape")


def _load(file: Path, environ: dict[str, str]) -> None:
    try:
        config = load_config(Flags(config=file), environ=environ)
    except ConfigError as error:
        said = str(error)
        problems = error.problems
        faulty = [one for one in problems if not one.message or not (one.setting or one.where)]
        assert problems
        assert not faulty
    else:
        assert isinstance(config, Config)
        said = repr(config)
    # As it was given, or as it is quoted in an URL.
    assert SECRET not in said, said
    assert SECRET[:10] not in said, said


TARGETS = [Target("configuration", drawn, loading, cases=100)]
