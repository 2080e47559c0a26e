"""The JSON-RPC client against a server that does everything wrong that servers do."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.ports import PersistentError, TransientError
from daemon.drivers.jsonrpc import (
    AnswerTooLargeError,
    BusyError,
    JsonRpcClient,
    Login,
    RpcError,
)
from tests.helpers.http_node import HttpNode, Request, RpcFault, http_node, rpc_node
from tests.helpers.ports import free_port

LOGIN = Login("alice", "s3cret-pass")


@asynccontextmanager
async def client_of(node: HttpNode, **options: Any) -> AsyncIterator[JsonRpcClient]:
    client = JsonRpcClient(node.url, setting="coin.btc", **{"login": LOGIN, **options})
    try:
        yield client
    finally:
        await client.aclose()


async def test_a_call_and_a_batch_share_one_connection() -> None:
    async with rpc_node({"add": lambda a, b: a + b}) as node, client_of(node) as client:
        assert await client.call("add", 1, 2) == 3
        assert await client.batch([("add", (n, n)) for n in range(5)]) == [0, 2, 4, 6, 8]
        assert await client.batch([]) == []
        assert node.connections == 1
        assert node.requests[0].login == "alice:s3cret-pass"
        assert client.statistics().calls == 6
        assert client.statistics().requests == 2
        assert client.statistics().connections == 1
        assert client.statistics().bytes_received > 0
    assert client.statistics().connections == 0


async def test_fractions_are_exact() -> None:
    async def behave(request: Request) -> None:
        number = request.calls[0]["id"]
        await request.answer(b'{"result": [0.1, 20999999.97690001, 1e-8], "id": %d}' % number)

    async with http_node(behave) as node, client_of(node) as client:
        numbers = await client.call("x")
    assert numbers == [Decimal("0.1"), Decimal("20999999.97690001"), Decimal("1e-8")]
    assert all(isinstance(number, Decimal) for number in numbers)


async def test_a_refused_call_carries_the_nodes_code() -> None:
    methods = {"good": 1, "bad": RpcFault(-5, "No such transaction")}
    async with rpc_node(methods) as node, client_of(node) as client:
        with pytest.raises(RpcError, match=r"refused bad: No such transaction \(error -5\)") as e:
            await client.call("bad")
        assert e.value.code == -5
        first, second = await client.batch([("good", ()), ("bad", ())])
        assert first == 1
        assert isinstance(second, RpcError)


async def test_batch_answers_may_come_in_any_order() -> None:
    async def behave(request: Request) -> None:
        answers = [{"id": call["id"], "result": call["params"][0]} for call in request.calls]
        await request.answer(json.dumps(answers[::-1]).encode())

    async with http_node(behave) as node, client_of(node) as client:
        assert await client.batch([("x", (1,)), ("x", (2,))]) == [1, 2]


async def test_at_most_so_many_requests_are_under_way() -> None:
    waiting: list[Request] = []
    full = trio.Event()
    release = trio.Event()

    async def behave(request: Request) -> None:
        waiting.append(request)
        if len(waiting) == 2:
            full.set()
        await release.wait()
        await request.results([None])

    async with http_node(behave) as node, client_of(node, connections=2) as client:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(client.call, "x")
            await full.wait()
            await trio.testing.wait_all_tasks_blocked()
            assert len(waiting) == 2
            release.set()
        assert node.connections == 2


# --- what goes wrong with the connection ----------------------------------------------------------


def says(status: int, body: bytes, **options: Any) -> Callable[[Request], Any]:
    async def behave(request: Request) -> None:
        await request.answer(body, status=status, **options)

    return behave


def sends(data: bytes) -> Callable[[Request], Any]:
    async def behave(request: Request) -> bool:
        await request.stream.send_all(data)
        return False

    return behave


def wrong_id(request: Request) -> Any:
    return request.answer(b'{"result": 1, "error": null, "id": 99999}')


def warming_up(request: Request) -> Any:
    fault = {"code": -28, "message": "Loading block index…"}
    number = request.calls[0]["id"]
    body = json.dumps({"result": None, "error": fault, "id": number}).encode()
    return request.answer(body, status=500)


def echoes_login(request: Request) -> Any:
    return request.answer(
        f"{request.headers['authorization']} {request.login}".encode(), status=500
    )


async def endless(request: Request) -> None:
    await request.stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await request.stream.send_all(b"10000\r\n" + b"[" * 0x10000 + b"\r\n")


async def endless_head(request: Request) -> None:
    await request.stream.send_all(b"HTTP/1.1 200 OK\r\n")
    while True:
        await request.stream.send_all(b"X-Header: yes\r\n" * 1000)


WHERE = r"coin\.btc\.daemon\.url \(http://127\.0\.0\.1:\d+\) "
FAULTS: dict[str, tuple[Callable[[Request], Any], type[Exception], str]] = {
    "401": (
        says(401, b""),
        PersistentError,
        WHERE + r"refuses us \(HTTP 401\)\. Check coin\.btc\.daemon\.user and"
        r" coin\.btc\.daemon\.pass, or coin\.btc\.cookie_file",
    ),
    "403": (says(403, b""), PersistentError, WHERE + r"refuses us \(HTTP 403\).*rpcallowip"),
    "404": (
        says(404, b"<html>not here"),
        TransientError,
        WHERE + r"answered HTTP 404: '<html>not here'\. Is this the node's RPC address",
    ),
    "500 without JSON": (says(500, b"oops"), TransientError, WHERE + "answered HTTP 500: 'oops'"),
    "503": (
        says(503, b"Work queue depth exceeded"),
        BusyError,
        WHERE + r"is too busy \(HTTP 503: 'Work queue depth exceeded'\).*rpcworkqueue",
    ),
    "warm-up": (warming_up, RpcError, WHERE + "is still starting: Loading block index….*Wait"),
    "no JSON": (
        says(200, b"hello there"),
        TransientError,
        WHERE + "answered garbage: no JSON in 11 bytes that begin 'hello there'",
    ),
    "NaN": (says(200, b'{"result": NaN}'), TransientError, "garbage: no JSON"),
    "not UTF-8": (says(200, b'{"result": "\xff"}'), TransientError, "garbage: no JSON"),
    "too deep": (says(200, b"[" * 100_000), TransientError, "garbage: no JSON"),
    "a number": (says(200, b"42"), TransientError, "garbage: neither an object nor a list"),
    "another object": (says(200, b'{"a": 1}'), TransientError, "garbage: no JSON-RPC answer"),
    "wrong id": (
        wrong_id,
        TransientError,
        WHERE + "answered garbage: an answer to another request",
    ),
    "10 MB of noise": (
        says(200, b"\xf0" * 10_000_000),
        TransientError,
        "garbage: no JSON in 10000000 bytes that begin",
    ),
    "too large": (
        says(200, b"", length=70 * 1024 * 1024),
        AnswerTooLargeError,
        WHERE
        + r"answered with more than we accept \(73400320 bytes or more, the limit is 67108864",
    ),
    "endless": (endless, AnswerTooLargeError, WHERE + "answered with more than we accept"),
    "endless head": (endless_head, TransientError, "garbage"),
    "truncated": (
        sends(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"result'),
        TransientError,
        WHERE + "answered garbage: peer closed connection",
    ),
    "no HTTP": (sends(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), TransientError, WHERE + "answered garbage"),
    "hangs up": (
        sends(b""),
        TransientError,
        WHERE + r"closed the connection without an answer\. Did the node stop",
    ),
    "echoed login": (echoes_login, TransientError, r"HTTP 500: 'Basic \*\*\* alice:\*\*\*'"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_told_in_words(fault: str) -> None:
    behave, family, text = FAULTS[fault]
    async with http_node(behave) as node, client_of(node) as client:
        with pytest.raises(family, match=text) as caught:
            await client.call("getbestblockhash")
        assert type(caught.value) is family
        said = str(caught.value)
        assert LOGIN.password is not None
        assert LOGIN.password not in said
        assert len(said) < 600


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_does_not_outlive_its_call(fault: str) -> None:
    behave, family, _ = FAULTS[fault]
    faults = [behave]

    async def once(request: Request) -> object:
        if faults:
            return await faults.pop()(request)
        return await request.results(["fine"])

    async with http_node(once) as node, client_of(node) as client:
        with pytest.raises(family):
            await client.call("x")
        assert await client.call("x") == "fine"


async def test_nobody_listens() -> None:
    client = JsonRpcClient(f"http://127.0.0.1:{free_port()}", setting="coin.ltc")
    text = r"coin\.ltc\.daemon\.url .* cannot be reached: Connection refused\. Is the node running"
    with pytest.raises(TransientError, match=text):
        await client.call("x")


async def test_a_slow_drip_is_cut_off(autojump_clock: trio.testing.MockClock) -> None:
    async def drip(request: Request) -> None:
        await request.stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            await trio.sleep(1)
            await request.stream.send_all(b" ")

    text = r"did not answer within 30 s.*Raise coin\.btc\.rpc_timeout_s"
    async with http_node(drip) as node, client_of(node) as client:
        with pytest.raises(TransientError, match=text):
            await client.call("x")


async def test_large_honest_answers_pass() -> None:
    block = "ab" * 4_200_000
    async with rpc_node({"getblock": block}) as node, client_of(node) as client:
        assert await client.call("getblock") == block


async def test_the_limit_is_configurable() -> None:
    node_of_much = rpc_node({"x": "a" * 2000})
    async with node_of_much as node, client_of(node, max_answer_bytes=1000) as client:
        with pytest.raises(AnswerTooLargeError, match="the limit is 1000"):
            await client.call("x")


async def test_a_closed_keep_alive_connection_is_opened_again() -> None:
    async def once_per_connection(request: Request) -> bool:
        await request.results([request.connection])
        return False

    async with http_node(once_per_connection) as node, client_of(node) as client:
        assert [await client.call("x") for _ in range(3)] == [1, 2, 3]


async def test_a_server_that_says_close_is_obeyed() -> None:
    async def behave(request: Request) -> None:
        body = json.dumps({"id": request.calls[0]["id"], "result": request.connection}).encode()
        head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        await request.stream.send_all(head.encode() + body)

    async with http_node(behave) as node, client_of(node) as client:
        assert [await client.call("x") for _ in range(2)] == [1, 2]


async def test_a_cancelled_call_leaves_nothing_behind() -> None:
    asked = trio.Event()

    async def behave(request: Request) -> None:
        if request.calls[0]["method"] == "slow":
            asked.set()
            await trio.sleep_forever()
        await request.results(["fine"])

    async with http_node(behave) as node, client_of(node) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.call, "slow")
            await asked.wait()
            nursery.cancel_scope.cancel()
        assert await client.call("x") == "fine"


async def test_a_batch_refused_as_a_whole() -> None:
    for body in (b'{"error": {"code": -32700, "message": "Parse error"}, "id": null}', b"{}"):
        async with http_node(says(200, body)) as node, client_of(node) as client:
            with pytest.raises(TransientError, match=r"Parse error|neither an object nor a list"):
                await client.batch([("x", ()), ("y", ())])


async def test_a_batch_with_missing_and_repeated_answers() -> None:
    async def missing(request: Request) -> None:
        await request.answer(json.dumps([{"id": request.calls[0]["id"], "result": 1}]).encode())

    async def repeated(request: Request) -> None:
        await request.answer(json.dumps([{"id": request.calls[0]["id"], "result": 1}] * 2).encode())

    for behave, text in ((missing, "1 answers to 2 calls"), (repeated, "to another request")):
        async with http_node(behave) as node, client_of(node) as client:
            with pytest.raises(TransientError, match=text):
                await client.batch([("x", ()), ("y", ())])


# --- who we are -----------------------------------------------------------------------------------


def guarded(password: Callable[[], str]) -> Callable[[Request], Any]:
    async def behave(request: Request) -> None:
        if request.login == password():
            await request.results(["in"])
        else:
            await request.answer(b"", status=401)

    return behave


async def test_the_cookie_is_read_again_after_a_restart(tmp_path: Path) -> None:
    cookie = tmp_path / ".cookie"
    cookie.write_text("__cookie__:one")
    login = Login(cookie_file=cookie)
    node_of_today = http_node(guarded(cookie.read_text))
    async with node_of_today as node, client_of(node, login=login) as client:
        assert await client.call("x") == "in"
        cookie.write_text("__cookie__:two")
        assert await client.call("x") == "in"
        assert len(node.requests) == 3


async def test_a_wrong_cookie_is_not_tried_again(tmp_path: Path) -> None:
    cookie = tmp_path / ".cookie"
    cookie.write_text("__cookie__:old")
    login = Login(cookie_file=cookie)
    other_node = http_node(guarded(lambda: "__cookie__:new"))
    async with other_node as node, client_of(node, login=login) as client:
        with pytest.raises(PersistentError, match=r"HTTP 401.*coin\.btc\.cookie_file") as caught:
            await client.call("x")
        assert "__cookie__:old" not in str(caught.value)
        assert len(node.requests) == 1


@pytest.mark.parametrize(
    ("content", "family", "text"),
    [
        (None, TransientError, "does not exist. The node writes it when it starts"),
        (b"half", TransientError, "holds no 'user:password' line"),
        (b"\xff\xfe", TransientError, "holds no 'user:password' line"),
    ],
)
async def test_a_bad_cookie_file(
    tmp_path: Path, content: bytes | None, family: type[Exception], text: str
) -> None:
    cookie = tmp_path / ".cookie"
    if content is not None:
        cookie.write_bytes(content)
    client = JsonRpcClient(
        "http://127.0.0.1:1", setting="coin.btc", login=Login(cookie_file=cookie)
    )
    with pytest.raises(family, match=r"coin\.btc\.cookie_file: .*" + text):
        await client.call("x")


async def test_an_unreadable_cookie_file_needs_a_person(tmp_path: Path) -> None:
    client = JsonRpcClient(
        "http://127.0.0.1:1", setting="coin.btc", login=Login(cookie_file=tmp_path)
    )
    with pytest.raises(
        PersistentError, match=r"cannot be read .*Is a directory.*set coin.btc.daemon.user"
    ):
        await client.call("x")


async def test_credentials_in_the_url_are_used_and_never_shown() -> None:
    async with http_node(guarded(lambda: "bob:hidden word")) as node:
        url = node.url.replace("//", "//bob:hidden%20word@") + "/wallet/x"
        client = JsonRpcClient(url, setting="coin.btc")
        assert await client.call("x") == "in"
        assert client.where == f"coin.btc.daemon.url ({node.url})"
        client.credentials.login = Login("bob", "other")
        with pytest.raises(PersistentError) as caught:
            await client.call("x")
        assert "hidden" not in str(caught.value)
        assert "hidden" not in repr(client.credentials.login)
        await client.aclose()


@pytest.mark.parametrize("url", ["127.0.0.1:8332", "ftp://x", "http://", "http://h:port"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match=r"looks like http://127\.0\.0\.1:8332"):
        JsonRpcClient(url, setting="coin.btc")


# --- asking ahead ---------------------------------------------------------------------------------


async def test_a_lane_asks_before_it_wants_the_answer() -> None:
    async with rpc_node({"x": lambda n: n}) as node, client_of(node) as client:
        lane = client.lane()
        await lane.send([("x", (1,)), ("x", (2,))])
        assert await lane.receive() == [1, 2]
        await lane.send([("x", (3,))])
        await lane.send([("x", (4,))])  # the answer to 3 is dropped
        assert await lane.receive() == [4]
        lane.close()
        lane.close()
        assert not lane.is_open
