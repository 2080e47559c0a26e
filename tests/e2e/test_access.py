"""Keys on the whole daemon: made beside it, on both stores; listeners that stand open; kills."""

import http.client
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import uuid4

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.helpers.goipay_client import GoiPay
from tests.helpers.process import wait_until
from tests.helpers.shop import new_key

CLOSED = {"TALLY_ACCESS_ANONYMOUS": "off"}
TOKEN = re.compile(r"tk_[0-9A-Za-z]{8}_[0-9A-Za-z]{32}")


def make_key(daemon, *arguments):
    done = daemon.command("access", "add", "--name", "test", *arguments)
    assert done.returncode == 0, done.stderr
    assert TOKEN.fullmatch(done.stdout.strip())
    assert done.stdout.strip() not in done.stderr
    return done.stdout.strip()


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def status(daemon, token, path="/v1/assets"):
    return daemon.http("GET", path, headers=bearer(token))[0]


@pytest.fixture(params=["sqlite", "postgres"])
def database(request, postgres_server):
    if request.param == "sqlite":
        return {}
    return {"TALLY_DATABASE_URL": postgres_server.create_database()}


def test_keys_are_made_and_revoked_beside_the_daemon(make_daemon, database):
    daemon = make_daemon(env=CLOSED | database)
    early = make_key(daemon, "--scope", "admin")  # before there is a database
    daemon.start()
    assert daemon.http("GET", "/v1/assets")[0] == 401
    assert daemon.http("GET", "/healthz")[0] == 200
    assert status(daemon, early) == 200
    late = make_key(daemon, "--scope", "read,write", "--expires", "1h")
    wait_until(lambda: status(daemon, late) == 200, "the new key is known", timeout_s=10)
    assert status(daemon, late, "/v1/audit") == 403
    prefix = late[3:11]
    listed = daemon.command("access", "list").stdout
    assert re.search(rf"^{prefix}  in force  read,write .* test$", listed, re.MULTILINE)
    assert late not in listed
    assert daemon.command("access", "revoke", prefix).returncode == 0
    wait_until(lambda: status(daemon, late) == 401, "the key is revoked", timeout_s=10)
    again = daemon.command("access", "revoke", prefix)
    assert again.returncode == 1
    assert "no API key in force" in again.stderr
    assert "revoked" in daemon.command("access", "list").stdout
    status_, _, trail = daemon.http("GET", "/v1/audit", headers=bearer(early))
    assert status_ == 200
    assert [(one["act"], one["actor"], one["address"]) for one in trail["items"]] == [
        ("key.revoked", "cli", "local"),
        ("key.added", "cli", "local"),
        ("key.added", "cli", "local"),
    ]
    lines = daemon.command("audit-trail", "--limit", "2").stdout.splitlines()
    assert len(lines) == 3
    assert "key.revoked" in lines[1]
    assert daemon.stop()
    assert daemon.exit_status == 0
    used = daemon.command("access", "list").stdout
    row = next(line for line in used.splitlines() if line.startswith(early[3:11]))
    assert "never  never" not in row  # the last use was saved at the end
    log = daemon.log.read_text()
    for token in (early, late):
        assert token not in log
        assert token.rpartition("_")[2] not in log


def test_a_wrong_command_says_what_is_wrong(make_daemon):
    daemon = make_daemon()
    for arguments, says in (
        (("add", "--name", "a", "--scope", "root"), "'root' is unknown; give one of read, write"),
        (("add", "--name", "a", "--scope", "read", "--expires", "soon"), "such as 90d"),
        (("add", "--name", "a", "--scope", "read", "--expires", "2020-01-01T00:00:00Z"), "passed"),
        (("add", "--name", "a", "--scope", "read", "--user", "me"), "a UUID of 36 characters"),
        (("add", "--name", "a", "--scope", "read", "--user", str(uuid4())), "there is no user"),
        (("add", "--name", " ", "--scope", "read"), "printable"),
        (("revoke", "nonsense"), "tallyd access list"),
    ):
        done = daemon.command("access", *arguments)
        assert done.returncode == 1, arguments
        assert says in done.stderr
        assert done.stdout == ""


def test_goipays_services_want_a_key_too(make_daemon, btc_node):
    daemon = make_daemon(btc_node, env=CLOSED)
    daemon.start()
    with GoiPay(daemon.grpc_port) as client:
        with pytest.raises(grpc.RpcError) as caught:
            client.register()
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    with grpc.insecure_channel(f"127.0.0.1:{daemon.grpc_port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        health.Check(health_pb2.HealthCheckRequest(), timeout=30)
    token = make_key(daemon, "--scope", "admin")
    wait_until(lambda: status(daemon, token) == 200, "the new key is known", timeout_s=10)
    with GoiPay(daemon.grpc_port) as client, authorized(client, token):
        assert len(client.register()) == 36


@contextmanager
def authorized(client, token):
    """Its calls carry the key."""
    metadata = (("authorization", f"Bearer {token}"),)

    class Interceptor(grpc.UnaryUnaryClientInterceptor):
        def intercept_unary_unary(self, continuation, details, request):
            details = details._replace(metadata=metadata)
            return continuation(details, request)

    plain = client.channel
    client.channel = grpc.intercept_channel(plain, Interceptor())
    try:
        yield
    finally:
        client.channel = plain


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"SERVER_HOST": "0.0.0.0"}, "server.host is 0.0.0.0"),
        ({"TALLY_HTTP_HOST": "0.0.0.0"}, "http.host is 0.0.0.0"),
        ({"TALLY_HTTP_HOST": "::"}, "http.host is ::"),
    ],
)
def test_a_listener_that_stands_open_is_refused(make_daemon, env, says):
    daemon = make_daemon(env=env)
    done = daemon.command("run")
    assert done.returncode == 1
    assert says in done.stderr
    assert "tallyd access add" in done.stderr
    check = daemon.command("check")
    assert check.returncode == 1
    assert re.search(rf"^FAILED   access +{says}", check.stdout, re.MULTILINE)


def test_a_listener_that_others_reach_starts_when_there_is_a_key(make_daemon):
    daemon = make_daemon(env={"TALLY_HTTP_HOST": "0.0.0.0", "SERVER_HOST": "0.0.0.0"})
    make_key(daemon, "--scope", "read")
    check = daemon.command("check").stdout
    assert re.search("^ok +access +1 API keys in force, callers on this", check, re.MULTILINE)
    daemon.start()
    assert daemon.http("GET", "/v1/assets")[0] == 200  # anonymous on loopback, no file


def test_subjects_need_mutual_tls(make_daemon):
    daemon = make_daemon(env={"TALLY_ACCESS_MTLS_SUBJECTS": "admin:*"})
    done = daemon.command("run")
    assert done.returncode == 78
    assert "access.mtls_subjects" in done.stderr
    assert "server.tls.mode" in done.stderr


def test_a_client_certificate_stands_for_a_key(make_daemon, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued = authority.issue_cert("localhost")
    (tmp_path / "key").write_bytes(issued.private_key_pem.bytes())
    (tmp_path / "cert").write_bytes(b"".join(one.bytes() for one in issued.cert_chain_pems))
    daemon = make_daemon(
        env=CLOSED
        | {
            "SERVER_TLS_MODE": "mtls",
            "SERVER_TLS_CERT": str(tmp_path / "cert"),
            "SERVER_TLS_KEY": str(tmp_path / "key"),
            "TALLY_SERVER_TLS_CLIENT_CA": str(tmp_path / "ca.pem"),
            "TALLY_ACCESS_MTLS_SUBJECTS": "admin:shop,read:CN=till",
        }
    )
    daemon.start()

    def register(name):
        leaf = authority.issue_cert(common_name=name)
        credentials = grpc.ssl_channel_credentials(
            (tmp_path / "ca.pem").read_bytes(),
            leaf.private_key_pem.bytes(),
            b"".join(one.bytes() for one in leaf.cert_chain_pems),
        )
        with GoiPay(daemon.grpc_port, credentials=credentials) as client:
            try:
                client.register()
            except grpc.RpcError as error:
                return error.code().name
        return "OK"

    assert [register(name) for name in ("shop", "stranger")] == ["OK", "UNAUTHENTICATED"]
    trail = daemon.command("audit-trail").stdout
    assert re.search(r"mtls:.*CN=shop", trail)


def test_killed_between_any_two_steps_a_repeated_request_makes_one_invoice(make_daemon, btc_node):
    """Requests with a key, repeated until answered while the daemon is killed again and again."""
    daemon = make_daemon(btc_node)
    daemon.start()
    _, _, user = daemon.http("POST", "/v1/users")
    path = f"/v1/users/{user['id']}/keys"
    assert daemon.http("PUT", path, {"btc": new_key()})[0] == 204
    body = {"user_id": user["id"], "asset": "BTC", "amount": "0.1", "expires_in": 3600}
    answers, answered, killed = {}, threading.Event(), threading.Event()

    def insist(number):
        key = {"Idempotency-Key": f"order-{number}"}
        while True:
            try:
                code, _, invoice = daemon.http("POST", "/v1/invoices", body, headers=key)
            except (OSError, ValueError, http.client.HTTPException):
                continue  # it was killed
            if code == 201:
                answers.setdefault(number, set()).add(invoice["id"])
                answered.set()
                if killed.is_set():
                    return

    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(insist, number) for number in range(8)]
        for _ in range(3):
            answered.clear()
            wait_until(answered.is_set, "somebody has an answer")
            daemon.kill()
            daemon.start()
        killed.set()
        for one in done:
            one.result(timeout=60)
    assert all(len(ids) == 1 for ids in answers.values())
    _, _, listed = daemon.http("GET", f"/v1/invoices?user_id={user['id']}&limit=500")
    assert sorted(one["id"] for one in listed["items"]) == sorted(
        next(iter(ids)) for ids in answers.values()
    )
