"""The client against receivers of every kind, over real sockets."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_address, ip_network
from uuid import UUID

import h11
import pytest
import trio
import trustme

from daemon.webhook_client import MAX_BODY, WebhookClient
from daemon.webhook_guard import Guard
from tests.helpers.virtual_clock import VirtualClock

HERE = UUID(int=1)
LOCAL = Guard(allow_networks=(ip_network("127.0.0.0/8"),))
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Receiver:
    """Answers each request with the next of `answers` (the last again and again)."""

    def __init__(self, *answers: bytes | None, close: bool = False) -> None:
        self.answers = list(answers)
        self.close = close
        self.requests: list[tuple[bytes, dict[bytes, bytes], bytes]] = []
        self.connections = 0

    async def serve(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        try:
            while await self.answer_one(stream):
                pass
            await stream.aclose()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client left

    async def answer_one(self, stream: trio.abc.Stream) -> bool:
        found = await self.read(stream)
        if found is None:
            return False
        self.requests.append(found)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            await trio.sleep_forever()
        await stream.send_all(answer)
        return not self.close

    @staticmethod
    async def read(stream: trio.abc.Stream):
        protocol = h11.Connection(our_role=h11.SERVER)
        request, body = None, b""
        while True:
            event = protocol.next_event()
            if event is h11.NEED_DATA:
                data = await stream.receive_some(65536)
                if not data:
                    return None
                protocol.receive_data(data)
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return request.target, dict(request.headers), body
            else:
                return None


@asynccontextmanager
async def listening(receiver: Receiver, *, tls: ssl.SSLContext | None = None):
    """The receiver's port."""
    async with trio.open_nursery() as nursery:
        if tls is None:
            serve = partial(trio.serve_tcp, receiver.serve, 0, host="127.0.0.1")
        else:
            serve = partial(
                trio.serve_ssl_over_tcp, receiver.serve, 0, ssl_context=tls, host="127.0.0.1"
            )
        listeners = await nursery.start(serve)
        inner = getattr(listeners[0], "transport_listener", listeners[0])
        yield inner.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def client(guard: Guard = LOCAL, **more):
    made = WebhookClient(guard, clock=VirtualClock(), **more)
    try:
        yield made
    finally:
        await made.aclose()


async def send(made: WebhookClient, url: str, body: bytes = b"{}"):
    with trio.fail_after(20):
        return await made.post(HERE, url, {"webhook-id": "a-1"}, body)


async def test_a_request_is_complete_and_the_connection_is_used_again():
    receiver = Receiver(OK, b"HTTP/1.1 204 No Content\r\n\r\n")
    async with listening(receiver) as port, client() as made:
        url = f"http://127.0.0.1:{port}/hook?x=1"
        first = await send(made, url, b'{"a":1}')
        second = await send(made, url)
    assert (first.status, first.error, second.status, second.error) == (200, None, 204, None)
    target, headers, body = receiver.requests[0]
    assert (target, body) == (b"/hook?x=1", b'{"a":1}')
    assert headers[b"host"] == f"127.0.0.1:{port}".encode()
    assert headers[b"webhook-id"] == b"a-1"
    assert receiver.connections == 1


async def test_connections_end_with_the_endpoint():
    receiver = Receiver(OK)
    async with listening(receiver) as port, client() as made:
        await send(made, f"http://127.0.0.1:{port}/")
        assert made.idle_connections() == 1
        await made.forget(HERE)
        assert made.idle_connections() == 0
        await made.forget(UUID(int=9))


async def test_a_connection_that_was_closed_meanwhile_is_replaced():
    receiver = Receiver(OK, close=True)
    async with listening(receiver) as port, client() as made:
        for _ in range(3):
            assert (await send(made, f"http://127.0.0.1:{port}/")).status == 200
    assert len(receiver.requests) == 3


@pytest.mark.parametrize(
    ("answer", "status", "why"),
    [
        (b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", 500, "HTTP 500"),
        (b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n", 410, "gone for good"),
        (
            b"HTTP/1.1 302 F\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n",
            302,
            "redirects to 'http://169.254.169.254/' are not followed",
        ),
        (b"HTTP/1.1 308 P\r\ncontent-length: 0\r\n\r\n", 308, "redirects are not followed"),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", None, "no HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 40_000, None, "no HTTP/1.1"),
        (b"", None, "closed before an answer came"),
        (b"HTTP/1.1 2", None, "no HTTP/1.1"),
    ],
)
async def test_bad_answers_are_failures_that_say_so(answer, status, why):
    receiver = Receiver(answer, close=True)
    async with listening(receiver) as port, client() as made:
        found = await send(made, f"http://127.0.0.1:{port}/")
    assert found.status == status
    assert why in found.error
    assert len(receiver.requests) == 1, "nothing is sent twice by itself, or elsewhere"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZZ",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n" + b"x" * (2 * MAX_BODY),
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nconnection: close\r\n\r\n",
    ],
)
async def test_what_follows_the_head_of_a_2xx_changes_nothing(answer):
    receiver = Receiver(answer, close=True)
    async with listening(receiver) as port, client() as made:
        found = await send(made, f"http://127.0.0.1:{port}/")
        assert found.status in (200, 202)
        assert found.error is None
        assert made.idle_connections() == 0


async def test_a_receiver_that_hangs_is_given_up_in_time(autojump_clock):
    async def hang(stream: trio.abc.Stream) -> None:
        await trio.sleep_forever()

    receiver = Receiver(None)
    async with client(timeout_s=10) as made, listening(receiver) as port:
        found = await send(made, f"http://127.0.0.1:{port}/")
    assert found.status is None
    assert found.error == "no answer within 10 s"


async def test_nobody_listens():
    async with listening(Receiver(OK)) as port:
        pass
    async with client() as made:
        found = await send(made, f"http://127.0.0.1:{port}/")
    assert "cannot connect to 127.0.0.1" in found.error
    assert "refused" in found.error


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"120", 120.0),
        (b"Fri, 14 Nov 2098 22:13:20 GMT", None),
        (b"soon", "none"),
        (b"-5", "none"),
        (b"9" * 60, 999999999.0),
    ],
)
async def test_retry_after(text, seconds):
    answer = b"HTTP/1.1 503 B\r\nretry-after: " + text + b"\r\ncontent-length: 0\r\n\r\n"
    async with listening(Receiver(answer)) as port, client() as made:
        found = await send(made, f"http://127.0.0.1:{port}/")
    if seconds == "none":
        assert found.retry_after_s is None
    elif seconds is None:
        assert found.retry_after_s > 1e9
    else:
        assert found.retry_after_s == seconds


# --- TLS ------------------------------------------------------------------------------------------


@asynccontextmanager
async def secured(receiver: Receiver, name: str):
    """(port, context that trusts the receiver's authority)."""
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(server)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with listening(receiver, tls=server) as port:
        yield port, trusting


def fixed(*addresses: str):
    async def resolver(_host: str, _port: int):
        return [ip_address(one) for one in addresses]

    return resolver


async def test_tls_is_verified_against_the_name_of_the_url():
    receiver = Receiver(OK)
    async with secured(receiver, "shop.example") as (port, trusting):
        async with client(tls=trusting, resolver=fixed("127.0.0.1")) as made:
            good = await send(made, f"https://shop.example:{port}/")
            again = await send(made, f"https://shop.example:{port}/")
            other = await send(made, f"https://other.example:{port}/")
        async with client(resolver=fixed("127.0.0.1")) as made:
            unknown = await send(made, f"https://shop.example:{port}/")
    assert (good.status, again.status) == (200, 200)
    assert "certificate is not accepted" in other.error
    assert "certificate is not accepted" in unknown.error
    assert receiver.requests[0][1][b"host"] == f"shop.example:{port}".encode()
    assert len(receiver.requests) == 2


# --- where it may not go --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "addresses",
    [
        ["169.254.169.254"],
        ["127.0.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["1.1.1.1", "10.0.0.1"],
        ["64:ff9b::7f00:1"],
    ],
)
async def test_a_name_with_one_address_of_ours_is_refused(addresses):
    async with client(Guard(), resolver=fixed(*addresses)) as made:
        found = await send(made, "https://evil.example/")
    assert found.status is None
    assert "webhooks.allow_networks" in found.error


async def test_a_name_that_changes_its_mind_gains_nothing():
    """Rebinding: asked once per connection, and the address that was judged is the one dialled."""
    asked: list[str] = []

    async def rebinding(host: str, _port: int):
        asked.append(host)
        return [ip_address("127.0.0.2" if len(asked) == 1 else "127.0.0.1")]

    receiver = Receiver(OK)
    guard = Guard(allow_networks=(ip_network("127.0.0.2/32"),))
    async with listening(receiver) as port, client(guard, resolver=rebinding) as made:
        first = await send(made, f"http://inner.example:{port}/")
        second = await send(made, f"http://inner.example:{port}/")
    assert asked == ["inner.example", "inner.example"]
    assert "127.0.0.2" in first.error, "it went to the judged address, where nobody listens"
    assert "127.0.0.1 is loopback" in second.error
    assert receiver.requests == []


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "localhost", "017700000001"])
async def test_old_spellings_of_loopback_are_judged_by_what_they_mean(host):
    """The system's resolver knows them all; what it makes of them is judged."""
    async with client(Guard(allow_http=True)) as made:
        found = await send(made, f"http://{host}:9/")
    assert found.status is None
    assert "is loopback" in found.error or "cannot be looked up" in found.error


async def test_a_name_without_addresses():
    async def broken(_host: str, _port: int):
        raise OSError(None, "Name or service not known")

    async with client(Guard(), resolver=broken) as made:
        found = await send(made, "https://nowhere.example/")
    assert found.error == "the name nowhere.example cannot be looked up: Name or service not known"
    async with client(Guard(), resolver=fixed()) as made:
        assert "cannot be looked up" in (await send(made, "https://nowhere.example/")).error


async def test_the_second_address_is_tried_when_the_first_does_not_answer():
    receiver = Receiver(OK)
    guard = Guard(allow_networks=(ip_network("127.0.0.0/8"),))
    resolver = fixed("127.0.0.2", "127.0.0.1")
    async with listening(receiver) as port, client(guard, resolver=resolver) as made:
        found = await send(made, f"http://two.example:{port}/")
    assert found.status == 200
