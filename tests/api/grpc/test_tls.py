"""TLS and mTLS with real handshakes, and settings that cannot work."""

import ssl

import grpc
import pytest
import trio
import trustme
from cryptography.hazmat.primitives import serialization

from api.grpc.limits import Limits
from api.grpc.tls import TlsSettingsError, server_context
from proto.goipay.user.v1 import RegisterUserRequest, UserServiceStub
from tests.helpers.google_messages import google_class
from tests.helpers.grpc_node import require_grpc_js, run_node
from tests.helpers.grpc_service import REGISTER
from tests.helpers.grpc_serving import serving

REQUEST = google_class("user.v1.RegisterUserRequest")
RESPONSE = google_class("user.v1.RegisterUserResponse")


class Paper:
    """Certificates of one test, as files and as trustme objects."""

    def __init__(self, folder):
        self.folder = folder
        self.authority = trustme.CA()
        self.server = self.authority.issue_cert("localhost", "127.0.0.1")
        self.shops = trustme.CA()
        self.partners = trustme.CA()
        self.shop = self.shops.issue_cert(common_name="shop", organization_name="Example")
        self.partner = self.partners.issue_cert(common_name="partner")
        self.stranger = trustme.CA().issue_cert(common_name="stranger")
        self.certificate = self.write("server.pem", *self.server.cert_chain_pems)
        self.key = self.write("server.key", self.server.private_key_pem)
        self.ca = self.write("ca.pem", self.authority.cert_pem)
        self.client_cas = [
            self.write("shops.pem", self.shops.cert_pem),
            self.write("partners.pem", self.partners.cert_pem),
        ]

    def write(self, name, *blobs):
        path = self.folder / name
        path.write_bytes(b"".join(blob.bytes() for blob in blobs))
        return path

    def context(self, *, mtls=False):
        cas = self.client_cas if mtls else ()
        return server_context(certificate=self.certificate, key=self.key, client_cas=cas)

    def grpcio(self, leaf=None):
        return grpc.ssl_channel_credentials(
            root_certificates=self.ca.read_bytes(),
            private_key=leaf and leaf.private_key_pem.bytes(),
            certificate_chain=leaf and b"".join(one.bytes() for one in leaf.cert_chain_pems),
        )

    def client_context(self, leaf=None):
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        context.set_alpn_protocols(["h2"])
        if leaf is not None:
            leaf.configure_cert(context)
        return context


@pytest.fixture
def paper(tmp_path):
    return Paper(tmp_path)


async def call(running, credentials):
    def run():
        address = f"localhost:{running.port}"
        with grpc.secure_channel(address, credentials) as channel:
            register = channel.unary_unary(
                REGISTER,
                request_serializer=REQUEST.SerializeToString,
                response_deserializer=RESPONSE.FromString,
            )
            return register(REQUEST(userId="hello"), timeout=20).userId

    return await trio.to_thread.run_sync(run)


async def test_tls_with_grpcio_and_grpclib(paper):
    async with serving(tls=paper.context()) as running:
        assert await call(running, paper.grpcio()) == "hello"
        assert (running.users.peer.tls, running.users.peer.subject) == (True, None)

        async def work(channel):
            reply = await UserServiceStub(channel).register_user(RegisterUserRequest(user_id="hi"))
            return reply.user_id

        assert await running.grpclib(work, ssl=paper.client_context()) == "hi"


@pytest.mark.parametrize(
    ("leaf", "subject"), [("shop", "O=Example,CN=shop"), ("partner", "CN=partner")]
)
async def test_mtls_names_the_client_of_any_configured_authority(paper, leaf, subject):
    async with serving(tls=paper.context(mtls=True)) as running:
        assert await call(running, paper.grpcio(getattr(paper, leaf))) == "hello"
        peer = running.users.peer
        # trustme adds an organizational unit of its own.
        assert set(subject.split(",")) <= set(peer.subject.split(","))
        assert ssl.DER_cert_to_PEM_cert(peer.certificate).startswith("-----BEGIN")
        assert str(peer).endswith(f"({peer.subject})")


@pytest.mark.parametrize("leaf", [None, "stranger"])
async def test_mtls_turns_others_away(paper, leaf):
    async with serving(tls=paper.context(mtls=True)) as running:
        with pytest.raises(grpc.RpcError) as caught:
            await call(running, paper.grpcio(leaf and getattr(paper, leaf)))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "a TLS handshake failed" in running.log.events
        assert running.users.peer is None
        assert await call(running, paper.grpcio(paper.shop)) == "hello"


async def test_what_is_no_handshake_ends_its_connection_only(paper):
    async with serving(tls=paper.context()) as running:
        stream = await running.connect()
        await stream.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(50))
        while await stream.receive_some():
            pass
        assert await call(running, paper.grpcio()) == "hello"
        assert running.server.statistics()["connections_failed"] == 1


async def test_a_peer_that_never_shakes_hands_is_closed(paper):
    limits = Limits(handshake_timeout_s=0.05)
    async with serving(tls=paper.context(), limits=limits) as running:
        stream = await running.connect()
        with trio.fail_after(20):
            assert await stream.receive_some() == b""
        assert running.log.events == ["a TLS handshake failed"]


def test_settings_that_cannot_work_are_named(paper):
    def problem(**changes):
        settings = {"certificate": paper.certificate, "key": paper.key} | changes
        with pytest.raises(TlsSettingsError) as caught:
            server_context(**settings)
        return str(caught.value)

    missing = paper.folder / "missing.pem"
    nonsense = paper.folder / "nonsense.pem"
    nonsense.write_text("nonsense")
    other = paper.write("other.key", paper.shop.private_key_pem)
    assert "SERVER_TLS_CERT" in problem(certificate=missing)
    assert f"cannot read {missing}" in problem(certificate=missing)
    assert "SERVER_TLS_KEY" in problem(key=missing)
    assert "does not belong to the certificate" in problem(key=other)
    assert str(nonsense) in problem(certificate=nonsense)
    assert str(nonsense) in problem(key=nonsense)
    assert "SERVER_TLS_CA" in problem(client_cas=[missing])
    assert "holds no PEM certificate" in problem(client_cas=[paper.client_cas[0], nonsense])


def test_a_key_with_a_password_does_not_ask_for_it(paper):
    key = serialization.load_pem_private_key(paper.server.private_key_pem.bytes(), None)
    locked = paper.folder / "locked.key"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(TlsSettingsError, match="protected by a password"):
        server_context(certificate=paper.certificate, key=locked)


def test_old_tls_is_not_spoken(paper):
    assert paper.context().minimum_version is ssl.TLSVersion.TLSv1_2


GRPC_JS = """
const fs = require('fs');
const [ca, key, cert] = process.argv.slice(3).map(file => fs.readFileSync(file));
const users = new (load('user/v1/user.proto').user.v1.UserService)(
  address, grpc.credentials.createSsl(ca, key, cert));
users.RegisterUser({userId: 'ü'}, (error, reply) => {
  out.push(error ? [error.code, error.details] : reply.userId);
  users.close();
});
"""


@pytest.mark.parametrize("mtls", [False, True])
async def test_grpc_js_over_tls(paper, mtls):
    await trio.to_thread.run_sync(require_grpc_js)
    files = [paper.ca]
    if mtls:
        files.append(paper.write("shop.key", paper.shop.private_key_pem))
        files.append(paper.write("shop.pem", *paper.shop.cert_chain_pems))
    async with serving(tls=paper.context(mtls=mtls)) as running:
        address = f"localhost:{running.port}"
        out = await trio.to_thread.run_sync(run_node, GRPC_JS, address, *map(str, files))
    assert out == ["ü"]
