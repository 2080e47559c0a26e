"""Health and reflection, asked by the official tools' libraries."""

import grpc
import pytest
import trio
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from api.grpc.descriptors import load
from api.grpc.health import NOT_SERVING, SERVING, Health
from proto.standard.grpc.reflection import v1, v1alpha
from tests.helpers.grpc_service import Invoices, Users
from tests.helpers.grpc_serving import serving

SERVED = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "invoice.v1.InvoiceService",
    "user.v1.UserService",
]


async def test_health_check():
    async with serving(Users(), Invoices()) as running:
        running.server.health.set(SERVING)
        running.server.health.set(NOT_SERVING, "user.v1.UserService")

        def work(channel):
            stub = health_pb2_grpc.HealthStub(channel)

            def status(service):
                return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=20).status

            with pytest.raises(grpc.RpcError) as caught:
                status("no.Such")
            names = ("", "invoice.v1.InvoiceService", "user.v1.UserService")
            return [status(name) for name in names], caught.value.code()

        assert await running.grpcio(work) == ([1, 1, 2], grpc.StatusCode.NOT_FOUND)


async def test_health_watch():
    async with serving(Users()) as running:

        def work(channel):
            stub = health_pb2_grpc.HealthStub(channel)
            seen = stub.Watch(health_pb2.HealthCheckRequest(service=""), timeout=20)
            unknown = stub.Watch(health_pb2.HealthCheckRequest(service="no.Such"), timeout=20)
            statuses = [next(seen).status]
            for change in (SERVING, SERVING, NOT_SERVING):
                trio.from_thread.run_sync(running.server.health.set, change)
                if change != SERVING or statuses[-1] != SERVING:
                    statuses.append(next(seen).status)
            return statuses, next(unknown).status

        assert await running.grpcio(work) == ([2, 1, 2], 3)


def test_health_knows_its_services():
    with pytest.raises(KeyError, match=r"no\.Such"):
        Health(["user.v1.UserService"]).set(SERVING, "no.Such")


async def test_reflection_lists_and_describes():
    async with serving(Users(), Invoices(), reflection=True) as running:

        def work(channel):
            database = ProtoReflectionDescriptorDatabase(channel)
            pool = DescriptorPool(database)
            service = pool.FindServiceByName("invoice.v1.InvoiceService")
            invoice = pool.FindMessageTypeByName("invoice.v1.Invoice")
            status = pool.FindMessageTypeByName("grpc.health.v1.HealthCheckResponse")
            return (
                sorted(database.get_services()),
                [method.name for method in service.methods],
                invoice.fields_by_name["createdAt"].message_type.full_name,
                sorted(status.enum_types_by_name),
            )

        services, methods, timestamp, enums = await running.grpcio(work)
        assert services == SERVED
        assert methods == ["CreateInvoice", "InvoiceStatusStream", "GetInvoices"]
        assert timestamp == "google.protobuf.Timestamp"
        assert enums == ["ServingStatus"]


@pytest.mark.parametrize("version", [v1, v1alpha])
async def test_reflection_answers_both_versions(version):
    async with serving(Users(), Invoices(), reflection=True) as running:
        asked = version.ServerReflectionRequest
        questions = [
            asked(list_services="*"),
            asked(file_by_filename="invoice/v1/invoice.proto"),
            asked(file_containing_symbol="user.v1.UserService.RegisterUser"),
            asked(file_containing_symbol=".crypto.v1.CoinType"),
            asked(file_containing_symbol="crypto.v1.XMR"),
            asked(all_extension_numbers_of_type="invoice.v1.Invoice"),
            asked(file_containing_symbol="no.Such"),
            asked(file_by_filename="no/such.proto"),
            asked(all_extension_numbers_of_type="no.Such"),
            asked(file_containing_extension=version.ExtensionRequest(containing_type="no.Such")),
            asked(),
        ]

        async def work(channel):
            stub = version.ServerReflectionStub(channel)
            return [one async for one in stub.server_reflection_info(questions)]

        answers = await running.grpclib(work)
        assert len(answers) == len(questions)
        assert [one.name for one in answers[0].list_services_response.service] == SERVED
        names = [len(one.file_descriptor_response.file_descriptor_proto) for one in answers[1:5]]
        # With what they import: crypto and Timestamp; crypto; nothing; nothing.
        assert names == [3, 2, 1, 1]
        assert answers[5].all_extension_numbers_response.base_type_name == "invoice.v1.Invoice"
        assert [one.error_response.error_code for one in answers[6:]] == [5, 5, 5, 5, 3]
        assert answers[6].original_request.file_containing_symbol == "no.Such"


async def test_reflection_is_off_unless_asked_for():
    async with serving(Users()) as running:

        def work(channel):
            with pytest.raises(grpc.RpcError) as caught:
                ProtoReflectionDescriptorDatabase(channel).get_services()
            return caught.value.code()

        assert await running.grpcio(work) == grpc.StatusCode.UNIMPLEMENTED


def test_descriptors_of_all_contracts_are_indexed():
    descriptors = load()
    assert set(SERVED) <= set(descriptors.services)
    assert descriptors.is_message("google.rpc.ErrorInfo")
    assert descriptors.is_message("google.rpc.ErrorInfo.MetadataEntry")
    assert not descriptors.is_message("crypto.v1.CoinType")
    assert descriptors.file("google/protobuf/timestamp.proto")
