"""grpc.health.v1: what load balancers and orchestrators ask.

Source: grpc/doc/health-checking.md.
"""

from collections.abc import AsyncIterator, Iterable

import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from proto.standard.grpc.health.v1 import (
    HealthBase,
    HealthCheckRequest,
    HealthCheckResponse,
    HealthCheckResponseServingStatus,
)

SERVING = HealthCheckResponseServingStatus.SERVING
NOT_SERVING = HealthCheckResponseServingStatus.NOT_SERVING
SERVICE_UNKNOWN = HealthCheckResponseServingStatus.SERVICE_UNKNOWN
OVERALL = ""


class Health(HealthBase):
    """Answers for the server as a whole, the service "", and for each service it knows.

    Everything is NOT_SERVING until the daemon sets it. A watcher sees the latest status; changes
    that follow each other faster than it reads may be merged, as the protocol allows.
    """

    def __init__(self, services: Iterable[str] = ()) -> None:
        self._statuses = dict.fromkeys((OVERALL, *services), NOT_SERVING)
        self._changed = trio.Event()

    def set(self, status: HealthCheckResponseServingStatus, *services: str) -> None:
        """Set the status of these services, or of all of them with "" when none is named.

        Raises KeyError for a service that is not known.
        """
        for service in services or tuple(self._statuses):
            if service not in self._statuses:
                raise KeyError(service)
            self._statuses[service] = status
        self._changed.set()
        self._changed = trio.Event()

    async def check(self, message: HealthCheckRequest) -> HealthCheckResponse:
        """The present status; NOT_FOUND for an unknown service."""
        status = self._statuses.get(message.service)
        if status is None:
            raise GRPCError(Status.NOT_FOUND, f"Service {message.service[:200]!r} is not known.")
        return HealthCheckResponse(status=status)

    async def watch(self, message: HealthCheckRequest) -> AsyncIterator[HealthCheckResponse]:
        """The present status and each later one; SERVICE_UNKNOWN for an unknown service."""
        sent = None
        while True:
            # No await between reading the status and taking the event: no change slips through.
            status = self._statuses.get(message.service, SERVICE_UNKNOWN)
            changed = self._changed
            if status != sent:
                sent = status
                yield HealthCheckResponse(status=status)
            await changed.wait()


def service_names(paths: Iterable[str]) -> list[str]:
    """The services among method paths such as ``/user.v1.UserService/RegisterUser``."""
    return sorted({path.split("/")[1] for path in paths})
