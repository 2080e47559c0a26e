"""What a merchant or operator may ask of webhooks: add, look, change, pause, test, send again.

Expected refusals are returned; TransientError and PersistentError are raised when the store or the
vault cannot be used, and then nothing has happened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Protocol
from uuid import UUID, uuid4

from actors.core.outcomes import NoSuchUser
from actors.core.webhook import Health, Pause, Verdict, verdict_of
from actors.ports import Store, WallClock
from actors.webhook_actor import WebhookTools
from actors.webhook_book import (
    MOST_OWED,
    Attempt,
    Endpoint,
    Form,
    LoggedAttempt,
    Outcome,
    Owed,
    Owing,
)
from actors.webhook_engine import WebhookStatistics
from actors.webhook_forms import Composer, request_headers
from actors.webhook_sending import Answer

TEST = "webhook.test"
OVERLAP_S = 86_400
"""How long the old secret goes on signing after a rotation, unless something else is asked for."""
LONGEST_OVERLAP_S = 30 * 86_400


@dataclass(frozen=True, slots=True)
class NoSuchWebhook:
    webhook_id: UUID


@dataclass(frozen=True, slots=True)
class UrlRefused:
    """The URL cannot be an endpoint; why, for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class TooManyWebhooks:
    most: int


@dataclass(frozen=True, slots=True)
class KindsRefused:
    """Kinds of events that are not sent in the endpoint's form; `reason` is for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class CannotRedeliver:
    """What is asked for cannot be sent again; why, for people."""

    reason: str


WebhookRefusal = (
    NoSuchWebhook | NoSuchUser | UrlRefused | KindsRefused | TooManyWebhooks | CannotRedeliver
)


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """What is asked of an endpoint."""

    url: str
    user_id: UUID | None
    """Whose events; None: everybody's."""
    types: tuple[str, ...] = ()
    """Kinds of events; empty: all that there are in the form."""
    form: Form = Form.STANDARD
    from_start: bool = False
    """Send the whole log first, instead of what happens from now on."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An endpoint with its secret, which is shown once."""

    endpoint: Endpoint
    secret: bytes


@dataclass(frozen=True, slots=True)
class View:
    """An endpoint as it is now."""

    endpoint: Endpoint
    owing: Owing
    behind: int
    """Events of the log after its cursor, wanted or not."""


class Engine(Protocol):
    """`WebhookEngine`, or `RemoteEngine` where another process has that."""

    @property
    def tools(self) -> WebhookTools: ...

    def resting(self, endpoint_id: UUID) -> AbstractAsyncContextManager[None]:
        """Nothing is sent to the endpoint, or recorded of it, in this block."""
        ...

    def statistics(self) -> WebhookStatistics: ...


class Webhooks:
    """The application service; its state is the store's and the engine's."""

    def __init__(
        self,
        *,
        store: Store,
        engine: Engine,
        seal: Callable[[UUID, bytes], bytes],
        new_secret: Callable[[], bytes],
        check_url: Callable[[str], str | None],
        test_body: Callable[[str, Endpoint, int], bytes],
        clock: WallClock,
    ) -> None:
        """`check_url` says what is wrong with a URL; `test_body` makes the body of a test of (event
        id, endpoint, instant)."""
        self.engine = engine
        self._store = store
        self._book = store.webhooks
        self._seal = seal
        self._new_secret = new_secret
        self._check_url = check_url
        self._test_body = test_body
        self._clock = clock

    async def add(self, wanted: NewWebhook, secret: bytes | None = None) -> Shown | WebhookRefusal:
        """Add an endpoint; a secret is made unless one is given."""
        problem = self._check_url(wanted.url)
        if problem is not None:
            return UrlRefused(problem)
        if wanted.user_id is not None and not await self._store.has_user(wanted.user_id):
            return NoSuchUser(wanted.user_id)
        types = self._kinds(wanted.form, wanted.types)
        if isinstance(types, KindsRefused):
            return types
        chosen = self._new_secret() if secret is None else secret
        webhook_id = uuid4()
        endpoint = Endpoint(
            id=webhook_id,
            user_id=wanted.user_id,
            url=wanted.url,
            types=types,
            form=wanted.form,
            secret=self._seal(webhook_id, chosen),
            created_at_ms=self._clock.now_ms(),
            cursor=0 if wanted.from_start else await self._store.last_seq(),
        )
        most = self.engine.tools.rules.most_endpoints
        async with self.engine.resting(webhook_id):
            added = await self._book.add_endpoint(endpoint, most=most)
        return Shown(endpoint, chosen) if added else TooManyWebhooks(most)

    async def find(self, user_id: UUID | None = None) -> tuple[Endpoint, ...]:
        """All, or those of one user, by creation."""
        return await self._book.endpoints(user_id)

    async def look(self, webhook_id: UUID) -> View | NoSuchWebhook:
        endpoint = await self._book.endpoint(webhook_id)
        if endpoint is None:
            return NoSuchWebhook(webhook_id)
        owing = await self._book.owing(webhook_id)
        behind = max(0, await self._store.last_seq() - endpoint.cursor)
        return View(endpoint, owing, behind)

    async def change(
        self, webhook_id: UUID, *, url: str | None = None, types: Sequence[str] | None = None
    ) -> Endpoint | WebhookRefusal:
        """Another URL, other kinds: for what has not been read yet, the kinds count as they are."""
        problem = None if url is None else self._check_url(url)
        if problem is not None:
            return UrlRefused(problem)
        present = await self._book.endpoint(webhook_id)
        if present is None:
            return NoSuchWebhook(webhook_id)
        kinds = None if types is None else self._kinds(present.form, types)
        if isinstance(kinds, KindsRefused):
            return kinds

        def changed(endpoint: Endpoint) -> Endpoint:
            return replace(
                endpoint,
                url=endpoint.url if url is None else url,
                types=endpoint.types if kinds is None else kinds,
            )

        return await self._change(webhook_id, changed)

    async def pause(self, webhook_id: UUID) -> Endpoint | NoSuchWebhook:
        """Send nothing until it is resumed; one that is paused stays as it is."""
        now_ms = self._clock.now_ms()

        def paused(endpoint: Endpoint) -> Endpoint:
            if endpoint.health.paused is not None:
                return endpoint
            health = replace(endpoint.health, paused=Pause.ASKED, paused_at_ms=now_ms)
            return replace(endpoint, health=health)

        return await self._change(webhook_id, paused)

    async def resume(self, webhook_id: UUID, *, from_now: bool) -> Endpoint | NoSuchWebhook:
        """Go on where it stopped, trying at once what had failed; or with what happens from now on.

        With `from_now` what was waiting is given up: it is listed as dead, and can be sent again.
        """
        last_seq = await self._store.last_seq()
        async with self.engine.resting(webhook_id):
            endpoint = await self._book.endpoint(webhook_id)
            if endpoint is None:
                return NoSuchWebhook(webhook_id)
            if from_now:
                await self._book.bury(webhook_id, error="skipped: resumed from now")
            else:
                rows = await self._book.owed(webhook_id, dead=False, limit=2 * MOST_OWED)
                await self._book.owe(webhook_id, [_fresh(row) for row in rows])
            cursor = max(endpoint.cursor, last_seq) if from_now else endpoint.cursor
            resumed = replace(endpoint, health=Health(), cursor=cursor)
            await self._book.change_endpoint(resumed)
        return resumed

    async def rotate(
        self, webhook_id: UUID, *, overlap_s: int = OVERLAP_S, secret: bytes | None = None
    ) -> Shown | NoSuchWebhook:
        """Sign with a new secret, and with the present one as well for `overlap_s`."""
        chosen = self._new_secret() if secret is None else secret
        sealed = self._seal(webhook_id, chosen)
        until_ms = self._clock.now_ms() + overlap_s * 1000

        def rotated(endpoint: Endpoint) -> Endpoint:
            return replace(
                endpoint,
                secret=sealed,
                old_secret=endpoint.secret if overlap_s else None,
                old_until_ms=until_ms if overlap_s else None,
            )

        outcome = await self._change(webhook_id, rotated)
        return outcome if isinstance(outcome, NoSuchWebhook) else Shown(outcome, chosen)

    async def remove(self, webhook_id: UUID) -> NoSuchWebhook | None:
        """Forget it, with its log and all that it is owed."""
        async with self.engine.resting(webhook_id):
            removed = await self._book.remove_endpoint(webhook_id)
        return None if removed else NoSuchWebhook(webhook_id)

    async def test(self, webhook_id: UUID) -> Answer | NoSuchWebhook:
        """Send one made-up event, paused or not, and say what came of it; it is logged."""
        endpoint = await self._book.endpoint(webhook_id)
        if endpoint is None:
            return NoSuchWebhook(webhook_id)
        tools = self.engine.tools
        at_ms = self._clock.now_ms()
        event_id = f"{TEST}-{uuid4()}"
        body = self._test_body(event_id, endpoint, at_ms)
        secret = tools.open_secret(endpoint.id, endpoint.secret)
        sent = request_headers(
            self._composer(endpoint),
            (secret,),
            event_id=event_id,
            at_ms=at_ms,
            body=body,
            user_agent=tools.rules.user_agent,
        )
        answer = await tools.sender.post(endpoint.id, endpoint.url, sent, body)
        good = verdict_of(answer.status) is Verdict.DELIVERED
        attempt = Attempt(
            event_id=event_id,
            type=TEST,
            seq=None,
            invoice_id=None,
            number=1,
            at_ms=at_ms,
            latency_ms=answer.latency_ms,
            status=answer.status,
            error=answer.error,
            outcome=Outcome.DELIVERED if good else Outcome.DEAD,
        )
        await self._book.log_attempts(webhook_id, [attempt])
        return answer

    async def log(
        self, webhook_id: UUID, *, before: int | None, limit: int
    ) -> tuple[LoggedAttempt, ...] | NoSuchWebhook:
        """Attempts, the newest first."""
        if await self._book.endpoint(webhook_id) is None:
            return NoSuchWebhook(webhook_id)
        return await self._book.attempts(webhook_id, before=before, limit=limit)

    async def owed(
        self, webhook_id: UUID, *, dead: bool, limit: int
    ) -> tuple[Owed, ...] | NoSuchWebhook:
        """What waits for another attempt, or what was given up."""
        if await self._book.endpoint(webhook_id) is None:
            return NoSuchWebhook(webhook_id)
        return await self._book.owed(webhook_id, dead=dead, limit=limit)

    async def redeliver_one(self, webhook_id: UUID, event: str) -> int | WebhookRefusal:
        """Send the event with this id again; returns how many will be sent: 1, or 0 if the endpoint
        has not come to it yet and gets it anyway."""
        outbox = self.engine.tools.outbox
        seq = await outbox.parse_cursor(event)
        if not isinstance(seq, int):
            return CannotRedeliver(seq.reason)
        endpoint = await self._book.endpoint(webhook_id)
        if endpoint is None:
            return NoSuchWebhook(webhook_id)
        found = await outbox.read(seq - 1, 1) if seq > 0 else []
        if not found or endpoint.user_id not in (None, found[0].user_id):
            return CannotRedeliver(f"there is no event {event} for this endpoint; see its log")
        one = found[0]
        if not await self._composer(endpoint).chosen([one]):
            return CannotRedeliver(
                f"event {event} ({one.type}) is not sent to a {endpoint.form.value} endpoint: it is"
                " no change of an order's status"
            )
        return await self._owe_again(webhook_id, [(one.seq, one.invoice_id, one.at_ms)])

    async def redeliver_range(
        self, webhook_id: UUID, *, since_ms: int, until_ms: int
    ) -> int | WebhookRefusal:
        """Send again what happened in [since, until) and the endpoint wants; returns how many."""
        endpoint = await self._book.endpoint(webhook_id)
        if endpoint is None:
            return NoSuchWebhook(webhook_id)
        found = await self._book.matching(
            user_id=endpoint.user_id,
            types=endpoint.types,
            since_ms=since_ms,
            until_ms=until_ms,
            up_to_seq=endpoint.cursor,
            limit=MOST_OWED + 1,
        )
        if len(found) > MOST_OWED:
            return CannotRedeliver(
                f"more than {MOST_OWED} events happened in this time; ask for less of it at once"
            )
        concerned = await self._composer(endpoint).concerned({one[1] for one in found})
        events = [one for one in found if one[1] in concerned]
        return await self._owe_again(webhook_id, events)

    async def _owe_again(
        self, webhook_id: UUID, events: Sequence[tuple[int, UUID, int]]
    ) -> int | WebhookRefusal:
        async with self.engine.resting(webhook_id):
            endpoint = await self._book.endpoint(webhook_id)
            if endpoint is None:
                return NoSuchWebhook(webhook_id)
            rows = [
                Owed(seq=seq, lane=lane, at_ms=at_ms)
                for seq, lane, at_ms in events
                if seq <= endpoint.cursor
            ]
            waiting = (await self._book.owing(webhook_id)).waiting
            if waiting + len(rows) > 2 * MOST_OWED:
                return CannotRedeliver(
                    f"{waiting} events wait for this endpoint already; let it take those first"
                )
            await self._book.owe(webhook_id, rows)
        return len(rows)

    def _composer(self, endpoint: Endpoint) -> Composer:
        return self.engine.tools.composers[endpoint.form]

    def _kinds(self, form: Form, types: Sequence[str]) -> tuple[str, ...] | KindsRefused:
        """The kinds that an endpoint of this form is sent, if these are asked for."""
        known = self.engine.tools.composers[form].kinds
        strange = [one for one in types if one not in known] if known else []
        if strange:
            return KindsRefused(
                f"a {form.value} endpoint is told of orders' statuses, not of {strange[0]}; it can"
                f" have {', '.join(known)}"
            )
        return tuple(types) or known

    async def _change(
        self, webhook_id: UUID, change: Callable[[Endpoint], Endpoint]
    ) -> Endpoint | NoSuchWebhook:
        async with self.engine.resting(webhook_id):
            endpoint = await self._book.endpoint(webhook_id)
            if endpoint is None:
                return NoSuchWebhook(webhook_id)
            changed = change(endpoint)
            await self._book.change_endpoint(changed)
        return changed


def _fresh(row: Owed) -> Owed:
    return replace(row, attempts=0, first_at_ms=None, next_at_ms=0)
