"""TLS and mutual TLS, reflection and health, with the official client."""

import grpc
import pytest
import trustme
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from tests.helpers.goipay_client import GoiPay
from tests.helpers.shop import Shop

AMOUNT = 7_890_123


class Papers:
    """An authority, the daemon's certificate, a shop's, and one of somebody else."""

    def __init__(self, folder):
        self.authority, stranger = trustme.CA(), trustme.CA()
        self.ca = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(str(self.ca))
        self.cert, self.key = folder / "server.pem", folder / "server.key"
        self.issue()
        self.shop = self.authority.issue_cert(common_name="shop")
        self.stranger = stranger.issue_cert(common_name="stranger")

    def issue(self):
        """Write a new certificate for the daemon over the old one; returns it."""
        issued = self.authority.issue_cert("localhost")
        self.key.write_bytes(issued.private_key_pem.bytes())
        self.cert.write_bytes(b"".join(one.bytes() for one in issued.cert_chain_pems))
        return issued

    def env(self, mode):
        return {
            "SERVER_TLS_MODE": mode,
            "SERVER_TLS_CERT": str(self.cert),
            "SERVER_TLS_KEY": str(self.key),
        }

    def credentials(self, leaf=None, *, trusted=True):
        return grpc.ssl_channel_credentials(
            self.ca.read_bytes() if trusted else trustme.CA().cert_pem.bytes(),
            leaf and leaf.private_key_pem.bytes(),
            leaf and b"".join(one.bytes() for one in leaf.cert_chain_pems),
        )


@pytest.fixture
def papers(tmp_path):
    return Papers(tmp_path)


def refused(port, credentials):
    with GoiPay(port, credentials=credentials, patient=False) as client:
        with pytest.raises(grpc.RpcError) as caught:
            client.register()
        return caught.value.code() is grpc.StatusCode.UNAVAILABLE


def trade(daemon, node, credentials):
    with GoiPay(daemon.grpc_port, credentials=credentials) as client:
        ticket = Shop(daemon, node, client, client.watch()).sell(AMOUNT)
        ticket.pay()
        ticket.heard("PENDING_MEMPOOL")
        node.mine()
        ticket.heard("CONFIRMED")
        ticket.check()


def test_tls(papers, make_daemon, btc_node):
    daemon = make_daemon(btc_node, env=papers.env("tls"))
    daemon.start()
    trade(daemon, btc_node, papers.credentials())
    assert refused(daemon.grpc_port, papers.credentials(trusted=False))
    assert refused(daemon.grpc_port, None)


def test_mtls_and_its_flag(papers, make_daemon, btc_node):
    daemon = make_daemon(
        btc_node, env=papers.env("mtls"), arguments=("run", "-client-ca", str(papers.ca))
    )
    daemon.start()
    trade(daemon, btc_node, papers.credentials(papers.shop))
    assert refused(daemon.grpc_port, papers.credentials())
    assert refused(daemon.grpc_port, papers.credentials(papers.stranger))


def test_certificates_that_do_not_fit_are_refused_at_start(papers, make_daemon):
    daemon = make_daemon(env=papers.env("tls"))
    daemon.folder.mkdir()
    papers.cert.write_text("no certificate")
    done = daemon.command("run")
    assert done.returncode != 0
    assert "server.tls.cert" in done.stderr
    assert str(papers.cert) in done.stderr
    assert "Traceback" not in done.stderr


def test_reflection_lists_and_describes_the_services(make_daemon):
    daemon = make_daemon(arguments=("-reflection",))
    daemon.start()
    with grpc.insecure_channel(f"127.0.0.1:{daemon.grpc_port}") as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        services = set(database.get_services())
        assert {"user.v1.UserService", "invoice.v1.InvoiceService"} <= services
        assert "grpc.health.v1.Health" in services
        pool = DescriptorPool(database)
        invoice = pool.FindMessageTypeByName("invoice.v1.Invoice")
        assert {field.name: field.number for field in invoice.fields} == {
            "id": 1,
            "cryptoAddress": 2,
            "coin": 3,
            "requiredAmount": 4,
            "actualAmount": 5,
            "confirmationsRequired": 6,
            "createdAt": 7,
            "confirmedAt": 8,
            "status": 9,
            "expiresAt": 10,
            "txId": 11,
            "userId": 12,
        }


def test_reflection_is_off_unless_asked_for_and_health_is_always_there(daemons):
    with grpc.insecure_channel(f"127.0.0.1:{daemons['sqlite'].grpc_port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(service=""))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            ProtoReflectionDescriptorDatabase(channel).get_services()
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
