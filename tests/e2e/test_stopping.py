"""Signals, systemd, and what keeps a daemon from starting."""

import contextlib
import http.client
import re
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.helpers.daemon import TALLYD
from tests.helpers.goipay_client import GoiPay
from tests.helpers.process import wait_until
from tests.helpers.shop import Shop, leaks

AMOUNT = 6_789_012
PROMISED_S = 10.0


@pytest.mark.parametrize("request_", [signal.SIGTERM, signal.SIGINT], ids=lambda one: one.name)
def test_a_stop_ends_streams_polls_and_idle_connections(request_, make_daemon, btc_node):
    daemon = make_daemon(btc_node)
    daemon.start()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(GoiPay(daemon.grpc_port)) for _ in range(3)]
        streams = [client.watch() for client in clients for _ in range(3)]
        ticket = Shop(daemon, btc_node, clients[0], streams[0]).sell(AMOUNT)
        ticket.pay()
        for stream in streams:
            stream.until(ticket.id, "PENDING_MEMPOOL")
        path = f"/v1/invoices/{ticket.id}"
        known = {"If-None-Match": daemon.http("GET", path)[1]["etag"]}
        idle = stack.enter_context(
            contextlib.closing(http.client.HTTPConnection("127.0.0.1", daemon.http_port))
        )
        idle.request("GET", "/healthz")
        assert idle.getresponse().read()
        mute = stack.enter_context(socket.create_connection(("127.0.0.1", daemon.grpc_port)))
        channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{daemon.grpc_port}"))
        health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(health).status == health_pb2.HealthCheckResponse.SERVING
        pool = stack.enter_context(ThreadPoolExecutor())
        poll = pool.submit(daemon.http, "GET", f"{path}?wait=30", None, known)
        wait_until(
            lambda: "tallyd_hub_waiters 1.0" in daemon.http("GET", "/metrics")[2],
            "the long-poll is there",
        )
        assert daemon.stop(request_)
        assert daemon.exit_status == 0
        for stream in streams:
            error = stream.until_ended()
            assert error.code() is grpc.StatusCode.CANCELLED
            assert error.details() == "Stream has been closed."
        assert poll.result()[0] in (200, 304)
        assert next(health).status == health_pb2.HealthCheckResponse.NOT_SERVING
        mute.settimeout(PROMISED_S)
        while mute.recv(1024):
            pass
    assert "event=stopped" in daemon.log.read_text()


def test_sighup_changes_the_log_level_and_follows_a_rotation(make_daemon, btc_node, tmp_path):
    config, log = tmp_path / "tallyd.yml", tmp_path / "own.log"
    config.write_text(f"log: {{level: warning, file: {log}}}\n")
    daemon = make_daemon(
        btc_node,
        arguments=("run", "-config", str(config)),
        env={"TALLY_ACCESS_ANONYMOUS": "loopback"},
    )
    daemon.start()
    assert "level=info" not in log.read_text()
    log.rename(tmp_path / "own.log.1")
    config.write_text(f"log: {{level: info, file: {log}}}\ncoin: {{btc: {{confirmations: 3}}}}\n")
    daemon.send(signal.SIGHUP)
    line = wait_until(
        lambda: log.exists() and _find(log.read_text(), "configuration reloaded"), "it is reloaded"
    )
    assert "log.level" in line
    assert "coin.btc.confirmations" in line
    config.write_text("http: {prot: 8080}\n")
    daemon.send(signal.SIGHUP)
    line = wait_until(lambda: _find(log.read_text(), "not reloaded"), "the mistake is logged")
    assert "did you mean port" in line
    limits = "server: {limits: {connections: 7}}"
    config.write_text(f"log: {{level: info, file: {log}}}\n{limits}\n")
    daemon.send(signal.SIGHUP)
    line = wait_until(lambda: _find(log.read_text(), "limits.connections"), "it is read again")
    assert "need_a_restart" in line
    with GoiPay(daemon.grpc_port) as client:
        ticket = Shop(daemon, btc_node, client, client.watch()).sell(AMOUNT)
        ticket.pay()
        ticket.heard("PENDING_MEMPOOL")
    assert daemon.stop()
    assert not leaks(log.read_text(), daemon)


def _find(text: str, wanted: str) -> str | None:
    return next((line for line in text.splitlines() if wanted in line), None)


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_a_second_daemon_on_the_same_database_is_refused(store, daemons, make_daemon):
    first = daemons[store]
    second = make_daemon()
    second.extra_env = dict(first.extra_env)
    if store == "sqlite":
        second.extra_env["STATE_DIRECTORY"] = str(first.folder)
    done = second.command("run")
    assert done.returncode == 1
    assert "database.url" in done.stderr
    assert "in use by another tallyd" in done.stderr
    if store == "sqlite":
        assert f"(process {first.pid})" in done.stderr
    assert "Traceback" not in done.stderr
    assert not leaks(done.stderr + done.stdout, second)
    assert first.http("GET", "/readyz")[0] == 200


@pytest.mark.parametrize(
    ("variable", "setting"), [("SERVER_PORT", "SERVER_PORT"), ("TALLY_HTTP_PORT", "http.port")]
)
def test_a_taken_port_is_named_with_its_setting(variable, setting, make_daemon):
    daemon = make_daemon()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        daemon.extra_env[variable] = str(port)
        daemon.folder.mkdir(parents=True, exist_ok=True)
        done = daemon.command("run")
    assert done.returncode == 1
    assert str(port) in done.stderr
    assert setting in done.stderr
    assert "Traceback" not in done.stderr


def test_systemd_hears_of_readiness_status_watchdog_reload_and_stop(
    make_daemon, btc_node, tmp_path
):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
        daemon = make_daemon(btc_node, env=env)
        daemon.spawn()
        heard: list[str] = []

        def until(line: str, *, exact: bool = True) -> None:
            while not any(one == line if exact else one.startswith(line) for one in heard):
                heard.extend(manager.recv(4096).decode().splitlines())

        until("READY=1")
        assert daemon.http("GET", "/healthz")[0] == 200
        until("WATCHDOG=1")
        until(f"STATUS=btc {btc_node.height()}; 0 open invoices")
        daemon.send(signal.SIGHUP)
        until("RELOADING=1")
        assert any(line.startswith("MONOTONIC_USEC=") for line in heard)
        heard.clear()
        until("READY=1")
        began = time.monotonic()
        for _ in range(4):
            heard.clear()
            until("WATCHDOG=1")
        assert time.monotonic() - began > 0.2  # fed at a pace, not as fast as it can be
        daemon.send(signal.SIGTERM)
        until("STOPPING=1")
        assert daemon.stop()
        assert daemon.exit_status == 0


def test_a_hung_event_loop_is_not_fed(make_daemon, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
        daemon = make_daemon(env=env)
        daemon.spawn()
        while b"WATCHDOG=1" not in manager.recv(4096):
            pass
        daemon.send(signal.SIGSTOP)
        manager.settimeout(1.0)
        silent = False
        for _ in range(10):  # what was sent before
            try:
                manager.recv(4096)
            except TimeoutError:
                silent = True
                break
        daemon.send(signal.SIGCONT)
        assert silent


def test_goipays_own_configuration_starts_the_daemon(
    make_daemon, btc_node, ltc_node, postgres_server, tmp_path
):
    """config.yml as GoiPay ships it, every value from the .env, PostgreSQL by DATABASE_*."""
    url = postgres_server.create_database()
    found = re.fullmatch(r"postgresql\+psycopg://(.+):(.+)@(.+):(\d+)/(.+)", url)
    config = tmp_path / "config.yml"
    coins = "\n".join(
        f"  {coin}:\n    daemon:\n      url: ${{{coin.upper()}_DAEMON_URL}}\n"
        + (
            f"      user: ${{{coin.upper()}_DAEMON_USER}}\n"
            f"      pass: ${{{coin.upper()}_DAEMON_PASS}}"
            if coin in ("xmr", "btc", "ltc")
            else ""
        )
        for coin in ("xmr", "btc", "ltc", "eth", "bnb")
    )
    config.write_text(
        "server:\n  host: ${SERVER_HOST}\n  port: ${SERVER_PORT}\n"
        "  tls:\n    mode: ${SERVER_TLS_MODE}\n    ca: ${SERVER_TLS_CA}\n"
        "    cert: ${SERVER_TLS_CERT}\n    key: ${SERVER_TLS_KEY}\n"
        "database:\n  host: ${DATABASE_HOST}\n  port: ${DATABASE_PORT}\n"
        "  user: ${DATABASE_USER}\n  pass: ${DATABASE_PASS}\n  name: ${DATABASE_NAME}\n"
        f"coin:\n{coins}\n"
    )
    names = ("USER", "PASS", "HOST", "PORT", "NAME")
    env = {f"DATABASE_{name}": found[number] for number, name in enumerate(names, 1)}
    env |= {"SERVER_TLS_MODE": "none", "SERVER_TLS_CA": "", "ETH_DAEMON_URL": ""}
    # The one thing to say beside GoiPay's file, which has no word for who may call.
    env["TALLY_ACCESS_ANONYMOUS"] = "loopback"
    arguments = ("-config", str(config), "-log-level", "info", "-reflection=true")
    daemon = make_daemon(btc_node, ltc_node, env=env, arguments=arguments)
    daemon.start()
    with GoiPay(daemon.grpc_port) as client:
        for node in (btc_node, ltc_node):
            ticket = Shop(daemon, node, client, client.watch()).sell(AMOUNT)
            ticket.pay()
            ticket.heard("PENDING_MEMPOOL")
    check = daemon.command("check", "-config", str(config))
    assert check.returncode == 0, check.stdout
    assert f"/{env['DATABASE_NAME']}" in check.stdout
    assert not leaks(check.stdout + check.stderr, daemon)


def test_with_no_configuration_at_all_the_defaults_apply(tmp_path):
    """SQLite in the XDG state home, ports 3000 and 8080: shown by `check`, which opens none."""
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [TALLYD, "check"],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(home / ".local/state/tallyd") in done.stdout
    assert "none is enabled" in done.stdout
