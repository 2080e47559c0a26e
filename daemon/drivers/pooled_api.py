"""What calls to a pool of nodes have in common, whatever a family of chains asks of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Generic, NoReturn, Protocol, TypeVar

from actors.ports import TransientError
from daemon.drivers.endpoint import DistrustError, EndpointHealth, Node
from daemon.drivers.endpoint_pool import NodePool
from daemon.drivers.jsonrpc_login import Login
from daemon.drivers.rpc_client import RpcStatistics


class LoginNode(Node, Protocol):
    def use_login(self, login: Login) -> None:
        """Credentials changed while running; requests under way end with the old ones."""
        ...


LoginNodeT = TypeVar("LoginNodeT", bound=LoginNode)


class PooledApi(Generic[LoginNodeT]):
    """Calls to the active node of `pool`, which this owns; a family adds its own, typed."""

    UNTRUE_ADVICE: ClassVar[str]
    """What to do about a node that answers what is not true; `{setting}` is the chain's."""

    def __init__(self, pool: NodePool[LoginNodeT]) -> None:
        self._pool = pool

    @property
    def where(self) -> str:
        """The active node, for people: the setting that names it and its address."""
        return self._pool.where

    @property
    def setting(self) -> str:
        return self._pool.setting

    def distrust(self, what: str) -> TransientError:
        """The error to raise when the active node's answers turn out to be untrue.

        `what` follows the node's name: "gave another block than ...". The node is left.
        """
        advice = self.UNTRUE_ADVICE.format(setting=self.setting)
        error = DistrustError(f"{self.where} {what}. {advice}")
        self._pool.distrust(error)
        return error

    async def watch(self) -> NoReturn:
        """Compare the nodes until the active one changes; raises TransientError then."""
        await self._pool.watch()

    async def check(self) -> None:
        """Compare all nodes once."""
        await self._pool.check()

    def use_logins(self, logins: Sequence[Login]) -> None:
        """One for each node, in order of preference; ignored if they are not as many."""
        clients = self._pool.clients
        if len(logins) == len(clients):
            for client, login in zip(clients, logins, strict=True):
                client.use_login(login)

    def health(self) -> tuple[EndpointHealth, ...]:
        """Every node in order of preference."""
        return self._pool.health()

    async def aclose(self) -> None:
        await self._pool.aclose()

    def statistics(self) -> RpcStatistics:
        return self._pool.statistics()
