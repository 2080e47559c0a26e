"""What a merchant's backend may ask for: users, keys, invoices. All four APIs stand on this.

Expected refusals are returned (`core.outcomes`); TransientError is raised when the store cannot
write, and then nothing has happened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from uuid import UUID, uuid4

from actors.chain_door import ChainDoor
from actors.chain_supervisor import ChainHealth, ChainState
from actors.core.assets import Asset, Catalogue
from actors.core.events import Terms
from actors.core.invoice import Invoice, State
from actors.core.outcomes import (
    AmountRefused,
    AssetDisabled,
    CancelRefusal,
    InvoiceRefusal,
    KeyRefused,
    KeysRefusal,
    NoKey,
    NoSuchInvoice,
    NoSuchUser,
    NotCancellable,
    PolicyRefusal,
    PolicyRefused,
    UnknownAsset,
    UserExists,
)
from actors.core.policy import EMPTY, Policy, PolicyError, checked
from actors.new_invoice import Agreement, NewInvoice, agree
from actors.ports import (
    Account,
    AddressDeriver,
    InvoiceQuery,
    InvoiceRow,
    LogEntry,
    PersistentError,
    PublicKey,
    Store,
    TransientError,
    WallClock,
)

__all__ = ["Invoicing", "NewInvoice"]

MIN_TTL_MS = 10_000
"""A shorter time to pay is raised to this."""
LAST_INSTANT_MS = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z: no wire or database that we speak knows a later one."""


class Invoicing:
    """The application service; holds no state of its own."""

    def __init__(
        self,
        *,
        store: Store,
        deriver: AddressDeriver,
        catalogue: Catalogue,
        chains: Mapping[str, ChainDoor],
        clock: WallClock,
        new_id: Callable[[], UUID] = uuid4,
    ) -> None:
        """`chains` are the enabled ones, by chain id."""
        self.catalogue = catalogue
        self.chains = chains
        self._store = store
        self._deriver = deriver
        self._clock = clock
        self._new_id = new_id

    async def register_user(self, user_id: UUID | None = None) -> UUID | UserExists:
        """Add a user, with a fresh id unless one is given."""
        chosen = self._new_id() if user_id is None else user_id
        refusal = await self._store.add_user(chosen, at_ms=self._clock.now_ms())
        return chosen if refusal is None else refusal

    async def has_user(self, user_id: UUID) -> bool:
        return await self._store.has_user(user_id)

    async def set_keys(self, user_id: UUID, keys: Sequence[tuple[str, str]]) -> KeysRefusal | None:
        """Give the user's watch-only keys as (chain id, text), all or nothing, in that order.

        A key for a chain of the catalogue that is not enabled is kept for the day it is. Raises
        PersistentError when a view key cannot be sealed; then none of them is stored.
        """
        if not await self._store.has_user(user_id):
            return NoSuchUser(user_id)
        accepted = self.parse_keys(keys)
        if isinstance(accepted, KeyRefused):
            return accepted
        return await self._store.set_keys(user_id, accepted, at_ms=self._clock.now_ms())

    def parse_keys(self, keys: Sequence[tuple[str, str]]) -> list[PublicKey] | KeyRefused:
        """Check keys as (chain id, text); the first refusal, if there is one.

        Raises PersistentError when a view key cannot be sealed.
        """
        accepted: list[PublicKey] = []
        for chain_id, text in keys:
            chain = self.catalogue.chains.get(chain_id)
            if chain is None:
                return KeyRefused(chain_id, "chain", f"{chain_id!r} is not a known chain")
            key = self._deriver.parse_key(chain, text)
            if isinstance(key, KeyRefused):
                return key
            accepted.append(key)
        return accepted

    async def account(self, user_id: UUID, chain_id: str) -> Account | None:
        """The user's current key for the chain."""
        return await self._store.account(user_id, chain_id)

    async def create_invoice(
        self, wanted: NewInvoice, *, invoice_id: UUID | None = None
    ) -> Invoice | InvoiceRefusal:
        """Give out a fresh address; the invoice is durable and watched when this returns.

        It gets `invoice_id` where the caller has chosen one that no invoice has.
        """
        if wanted.amount_base < 0:
            return AmountRefused("the amount is below 0")
        user_id = wanted.user_id
        asset = self.catalogue.assets.get(wanted.asset)
        account = await self._account(wanted, asset.chain) if asset else None
        # Who has an account is a user: asked only of those who have none.
        if account is None and not await self._store.has_user(user_id):
            return NoSuchUser(user_id)
        if asset is None:
            return UnknownAsset(wanted.asset)
        supervisor, network = self._usable(asset)
        if isinstance(supervisor, AssetDisabled):
            return supervisor
        if account is None:
            return NoKey(user_id, asset.chain)
        default = None
        if wanted.policy is None:
            default = await self._store.policies.policy(user_id, asset.id)
        agreed = agree(wanted, default)
        if not isinstance(agreed, Agreement):
            return agreed
        return await self._create(
            wanted,
            agreed,
            supervisor,
            account,
            network=network,
            invoice_id=invoice_id or self._new_id(),
        )

    async def _account(self, wanted: NewInvoice, chain: str) -> Account | None:
        if wanted.account_id is None:
            return await self._store.account(wanted.user_id, chain)
        account = await self._store.account_by_id(wanted.account_id)
        if account is None or (account.user_id, account.chain) != (wanted.user_id, chain):
            return None
        return account

    async def _create(
        self,
        wanted: NewInvoice,
        agreed: Agreement,
        supervisor: ChainDoor,
        account: Account,
        *,
        network: str,
        invoice_id: UUID,
    ) -> Invoice | AssetDisabled:
        major, minor = await self._store.allocate_index(account.id)
        try:
            derived = self._deriver.derive(
                supervisor.chain, account, network=network, major=major, minor=minor
            )
        except PersistentError as error:
            return AssetDisabled(wanted.asset, str(error))
        now_ms = self._clock.now_ms()
        expires_at_ms = wanted.expires_at_ms
        if expires_at_ms is None:
            expires_at_ms = now_ms + wanted.ttl_ms
        confirmations = agreed.confirmations
        return await supervisor.create(
            Terms(
                invoice_id=invoice_id,
                user_id=wanted.user_id,
                asset=wanted.asset,
                chain=supervisor.chain.id,
                network=network,
                address=derived.address,
                destination=derived.destination,
                account_id=account.id,
                path=(major, minor),
                required_base=wanted.amount_base,
                confirmations=(
                    supervisor.chain.confirmations if confirmations is None else confirmations
                ),
                created_at_ms=now_ms,
                expires_at_ms=min(LAST_INSTANT_MS, max(now_ms + MIN_TTL_MS, expires_at_ms)),
                watch_depth=supervisor.policy.settled_watch_depth,
                finality=None if agreed.counts else supervisor.policy.finality,
                memo=derived.memo,
                policy=agreed.policy,
                metadata=agreed.metadata,
            )
        )

    async def policy(self, user_id: UUID, asset: str) -> Policy | PolicyRefusal:
        """The user's default for the asset; the empty policy where none is set."""
        if not await self._store.has_user(user_id):
            return NoSuchUser(user_id)
        if asset not in self.catalogue.assets:
            return UnknownAsset(asset)
        return await self._store.policies.policy(user_id, asset) or EMPTY

    async def set_policy(
        self, user_id: UUID, asset: str, policy: Policy | None
    ) -> PolicyRefusal | None:
        """Change the default for invoices to come; None, or the empty policy, removes it."""
        if asset not in self.catalogue.assets:
            known = await self._store.has_user(user_id)
            return UnknownAsset(asset) if known else NoSuchUser(user_id)
        try:
            kept = None if policy is None or policy == EMPTY else checked(policy)
        except PolicyError as error:
            return PolicyRefused(str(error))
        at_ms = self._clock.now_ms()
        return await self._store.policies.set_policy(user_id, asset, kept, at_ms=at_ms)

    async def cancel(self, invoice_id: UUID) -> Invoice | CancelRefusal:
        """Withdraw an invoice to which nothing was paid; durable when this returns.

        An invoice that is cancelled already is returned as it is. The address stays watched: money
        that comes all the same is recorded as late.
        """
        row = await self._store.invoice(invoice_id)
        if row is None:
            return NoSuchInvoice(invoice_id)
        terms = row.invoice.terms
        supervisor = self.chains.get(terms.chain)
        if supervisor is None:
            return AssetDisabled(terms.asset, f"coin.{terms.chain}.daemon.url is not set")
        if row.invoice.state is State.PENDING:
            await supervisor.cancel(invoice_id)
            row = await self._store.invoice(invoice_id)
            assert row is not None, "invoices are never deleted"
        invoice = row.invoice
        if invoice.state is State.CANCELLED:
            return invoice
        if invoice.state is State.PENDING and not invoice.received_base:
            raise TransientError(
                f"invoice {invoice_id} could not be cancelled, and is as it was: the daemon's log"
                " says why; try again in a moment"
            )
        return NotCancellable(invoice_id, invoice.state.value)

    async def invoice(self, invoice_id: UUID) -> InvoiceRow | NoSuchInvoice:
        row = await self._store.invoice(invoice_id)
        return NoSuchInvoice(invoice_id) if row is None else row

    async def invoices(self, query: InvoiceQuery) -> tuple[InvoiceRow, ...]:
        return await self._store.find(query)

    async def history(self, invoice_id: UUID) -> tuple[LogEntry, ...]:
        return await self._store.history(invoice_id)

    def health(self, chain_id: str) -> ChainHealth | None:
        """The standing of an enabled chain."""
        supervisor = self.chains.get(chain_id)
        return supervisor.health() if supervisor else None

    def asset(self, asset_id: str) -> Asset | None:
        return self.catalogue.assets.get(asset_id)

    def why_disabled(self, asset: Asset) -> str | None:
        """Why no invoice can ask for the asset, for people; a node that is away is no reason."""
        supervisor = self.chains.get(asset.chain)
        if supervisor is None:
            return f"coin.{asset.chain}.daemon.url is not set"
        return supervisor.disabled_assets().get(asset.id)

    def why_not(self, asset: Asset) -> AssetDisabled | None:
        """Why an invoice for the asset would be refused now; None when it would not."""
        supervisor, _network = self._usable(asset)
        return supervisor if isinstance(supervisor, AssetDisabled) else None

    def _usable(self, asset: Asset) -> tuple[ChainDoor | AssetDisabled, str]:
        """The chain to create on and its network, or why it cannot be used."""
        reason = self.why_disabled(asset)
        if reason is not None:
            return AssetDisabled(asset.id, reason), ""
        supervisor = self.chains[asset.chain]
        health = supervisor.health()
        if health.state is ChainState.REFUSED or health.network is None:
            return AssetDisabled(asset.id, health.reason or "the node has not answered yet"), ""
        return supervisor, health.network
