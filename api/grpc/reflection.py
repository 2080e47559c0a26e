"""grpc.reflection: how grpcurl and its kin learn what a server offers.

v1 and v1alpha are one protocol under two package names, answered by one function.
Source: grpc/doc/server-reflection.md.
"""

from collections.abc import AsyncIterator, Iterable
from types import ModuleType
from typing import Any

import betterproto2
from grpclib.const import Status

from api.grpc.descriptors import Descriptors
from proto.standard.grpc.reflection import v1, v1alpha


class ReflectionV1(v1.ServerReflectionBase):
    """grpc.reflection.v1."""

    def __init__(self, answers: "Answers") -> None:
        self._answers = answers

    async def server_reflection_info(
        self, messages: AsyncIterator[v1.ServerReflectionRequest]
    ) -> AsyncIterator[v1.ServerReflectionResponse]:
        """One answer per question, in order."""
        async for message in messages:
            yield self._answers.answer(message, v1)


class ReflectionV1Alpha(v1alpha.ServerReflectionBase):
    """grpc.reflection.v1alpha, which older tools ask."""

    def __init__(self, answers: "Answers") -> None:
        self._answers = answers

    async def server_reflection_info(
        self, messages: AsyncIterator[v1alpha.ServerReflectionRequest]
    ) -> AsyncIterator[v1alpha.ServerReflectionResponse]:
        """One answer per question, in order."""
        async for message in messages:
            yield self._answers.answer(message, v1alpha)


class Answers:
    """Answers questions of either version about the services that are really served."""

    def __init__(self, descriptors: Descriptors, served: Iterable[str]) -> None:
        self._descriptors = descriptors
        self._served = sorted(served)

    def answer(self, request: Any, version: ModuleType) -> Any:
        """The response of the version's own type; unknown names are error responses."""
        kind: str
        value: Any
        kind, value = betterproto2.which_one_of(request, "message_request")
        response = version.ServerReflectionResponse(
            valid_host=request.host, original_request=request
        )
        match kind:
            case "file_by_filename":
                self._put_files(response, version, self._descriptors.file(value), value)
            case "file_containing_symbol":
                self._put_files(response, version, self._descriptors.file_with(value), value)
            case "list_services":
                response.list_services_response = version.ListServiceResponse(
                    service=[version.ServiceResponse(name=name) for name in self._served]
                )
            case "all_extension_numbers_of_type" if self._descriptors.is_message(value):
                # proto3 has no extensions but those of options, which nothing here defines.
                response.all_extension_numbers_response = version.ExtensionNumberResponse(
                    base_type_name=value
                )
            case "file_containing_extension" | "all_extension_numbers_of_type":
                _put_error(response, version, Status.NOT_FOUND, f"{str(value)[:200]} is not known.")
            case _:
                _put_error(response, version, Status.INVALID_ARGUMENT, "The request asks nothing.")
        return response

    @staticmethod
    def _put_files(
        response: Any, version: ModuleType, found: list[bytes] | None, asked: str
    ) -> None:
        if found is None:
            _put_error(response, version, Status.NOT_FOUND, f"{asked[:200]} is not known.")
        else:
            response.file_descriptor_response = version.FileDescriptorResponse(
                file_descriptor_proto=found
            )


def _put_error(response: Any, version: ModuleType, status: Status, text: str) -> None:
    response.error_response = version.ErrorResponse(error_code=status.value, error_message=text)


def reflection_services(
    descriptors: Descriptors, served: Iterable[str]
) -> tuple[ReflectionV1, ReflectionV1Alpha]:
    """Both versions, to be registered beside the services whose full names are given."""
    versions = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
    answers = Answers(descriptors, (*served, *versions))
    return ReflectionV1(answers), ReflectionV1Alpha(answers)
