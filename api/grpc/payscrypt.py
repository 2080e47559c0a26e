"""payscrypt.pg over gRPC."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from grpclib.const import Status

from actors.ports import PersistentError, TransientError
from api.access import current_caller
from api.errors import Answer, failure
from api.grpc.status import CallError
from api.payscrypt import INTERNAL_ERROR, code_of, reworded
from api.payscrypt_calls import PayscryptCalls
from proto.payscrypt.pg import (
    CreateOrderRequest,
    CreateOrderResponse,
    GetPublicOrderByIdRequest,
    GetPublicOrderByIdResponse,
    PgApiBase,
)

DOMAIN = "payscrypt"


class PgApi(PgApiBase):
    """Handlers of payscrypt.pg.PgApi."""

    internal_text = INTERNAL_ERROR

    def __init__(self, calls: PayscryptCalls, *, public_url: Callable[[], str]) -> None:
        """`public_url` says where payment pages are, without a slash at the end."""
        self._calls = calls
        self._public_url = public_url

    async def create_order(self, message: CreateOrderRequest) -> CreateOrderResponse:
        with store_failures():
            found = await self._calls.create_order(
                message, caller=current_caller(), public_url=self._public_url()
            )
        if isinstance(found, Answer):
            raise refused(found)
        return found

    async def get_public_order_by_id(
        self, message: GetPublicOrderByIdRequest
    ) -> GetPublicOrderByIdResponse:
        with store_failures():
            found = await self._calls.get_public_order(message)
        if isinstance(found, Answer):
            raise refused(found)
        return found


def refused(answer: Answer) -> CallError:
    """The error with the document's text."""
    told = reworded(answer)
    return CallError(Status(code_of(told)), told.detail, reason=told.kind.reason, domain=DOMAIN)


@contextmanager
def store_failures() -> Iterator[None]:
    """The world's failures as errors of the call."""
    try:
        yield
    except (TransientError, PersistentError) as error:
        raise refused(failure(error)) from error
