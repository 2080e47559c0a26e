"""Posts and standings in their tables: see `actors.duties`.

Writes run in a transaction of the writer and notify at its commit; reads run in a worker thread.
All instants are the server's.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    and_,
    delete,
    literal_column,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from actors.duties import ANSWER_S, MAX_BODY
from actors.ports import PersistentError, TransientError
from daemon.store.database import CHANNEL
from daemon.store.schema import posts, standings

AT_ONCE = 100
"""Posts that are begun with at a time."""

KEPT_MS = 60_000
"""How long posts stay, whether answered or not: longer than anybody waits."""

# The server's clock.
_NOW_MS = literal_column("(extract(epoch FROM clock_timestamp()) * 1000)::bigint", BigInteger)

# In one statement with their notification: there may be a thousand of them in a transaction.
_ASK = text(
    """
    WITH new AS (
        INSERT INTO posts (id, duty, kind, body, asked_by, asked_at_ms)
        SELECT CAST(:id AS uuid), :duty, :kind, :body, :asked_by,
            (extract(epoch FROM clock_timestamp()) * 1000)::bigint
    )
    SELECT pg_notify(:channel, :what)
    """
)
_ANSWER = text(
    """
    WITH answered AS (
        UPDATE posts SET answer = :answer, failure = :failure,
            answered_at_ms = (extract(epoch FROM clock_timestamp()) * 1000)::bigint
        WHERE id = :id AND begun_by = :process
        RETURNING asked_by
    )
    SELECT pg_notify(:channel, :what || asked_by) FROM answered
    """
)

_FAILURES: dict[str, type[TransientError | PersistentError]] = {
    "transient": TransientError,
    "persistent": PersistentError,
}

Answer = bytes | TransientError | PersistentError


class Post(NamedTuple):
    id: UUID
    kind: str
    body: bytes


def post_for(duty: str) -> str:
    """What is notified when there is a post for the holder of `duty`."""
    return f"post {duty}"


def answer_for(process: str) -> str:
    """What is notified when a post that `process` asked was answered."""
    return f"answer {process}"


STANDING = "standing"
"""What is notified when a standing has changed."""


def topic_of(topic: str) -> str:
    """What is notified when `topic` is announced."""
    return f"topic {topic}"


def notify(connection: Connection, what: str) -> None:
    connection.execute(
        text("SELECT pg_notify(:channel, :what)"), {"channel": CHANNEL, "what": what}
    )


# --- posts ----------------------------------------------------------------------------------------


def ask(connection: Connection, post: Post, *, duty: str, process: str) -> None:
    values = {**post._asdict(), "duty": duty, "asked_by": process, "channel": CHANNEL}
    connection.execute(_ASK, {**values, "what": post_for(duty)})


def withdraw(connection: Connection, post_id: UUID) -> bool:
    """Take a post back; False when somebody has begun with it, or it is gone."""
    nobody = posts.c.begun_by.is_(None)
    return connection.execute(delete(posts).where(posts.c.id == post_id, nobody)).rowcount == 1


def is_asked(connection: Connection, duty: str, *, process: str) -> bool:
    """Whether `begin` would find anything."""
    query = select(posts.c.id).where(_open(duty, process)).limit(1)
    return connection.scalar(query) is not None


def begin(connection: Connection, duty: str, *, process: str) -> tuple[Post, ...]:
    """The oldest posts for the holder of `duty` that it has not begun with yet: now it has."""
    oldest = (
        select(posts.c.id).where(_open(duty, process)).order_by(posts.c.asked_at_ms).limit(AT_ONCE)
    )
    begun = connection.execute(
        update(posts)
        .where(posts.c.id.in_(oldest))
        .values(begun_by=process)
        .returning(posts.c.id, posts.c.kind, posts.c.body, posts.c.asked_at_ms)
    ).all()
    return tuple(Post(*found[:3]) for found in sorted(begun, key=lambda post: post[3]))


def _open(duty: str, process: str) -> ColumnElement[bool]:
    return and_(
        posts.c.duty == duty,
        posts.c.answered_at_ms.is_(None),
        or_(posts.c.begun_by.is_(None), posts.c.begun_by != process),
        posts.c.asked_at_ms > _NOW_MS - int(2 * ANSWER_S * 1000),
    )


def answer(connection: Connection, post_id: UUID, said: Answer, *, process: str) -> None:
    """Answer a post that `process` has begun with, unless another has begun anew since."""
    match said:
        case bytes():
            body, failure = said, None
        case TransientError():
            body, failure = str(said).encode()[:MAX_BODY], "transient"
        case PersistentError():
            body, failure = str(said).encode()[:MAX_BODY], "persistent"
    values = {"id": post_id, "process": process, "answer": body, "failure": failure}
    connection.execute(_ANSWER, {**values, "channel": CHANNEL, "what": answer_for("")})


def answers(connection: Connection, post_ids: Collection[UUID]) -> dict[UUID, Answer]:
    """Those of the posts that are answered."""
    found = connection.execute(
        select(posts.c.id, posts.c.answer, posts.c.failure).where(
            posts.c.id.in_(post_ids), posts.c.answered_at_ms.is_not(None)
        )
    )
    return {
        post_id: said if failure is None else _FAILURES[failure](said.decode(errors="replace"))
        for post_id, said, failure in found
    }


def sweep(connection: Connection) -> None:
    """Delete the posts that nobody waits for any more."""
    connection.execute(delete(posts).where(posts.c.asked_at_ms < _NOW_MS - KEPT_MS))


# --- standings ------------------------------------------------------------------------------------


class Said(NamedTuple):
    duty: str
    holder: str
    body: bytes
    age_ms: int


def say(connection: Connection, duty: str, *, holder: str, process: str, body: bytes) -> None:
    values = {"holder": holder, "process": process, "body": body, "at_ms": _NOW_MS}
    connection.execute(
        insert(standings)
        .values(duty=duty, **values)
        .on_conflict_do_update(index_elements=[standings.c.duty], set_=values)
    )
    notify(connection, STANDING)


def confirm(connection: Connection, *, process: str) -> None:
    """What the process has said is true still."""
    connection.execute(
        update(standings).where(standings.c.process == process).values(at_ms=_NOW_MS)
    )


def said(connection: Connection) -> tuple[Said, ...]:
    age_ms = _NOW_MS - standings.c.at_ms
    query = select(standings.c.duty, standings.c.holder, standings.c.body, age_ms)
    return tuple(Said(*found) for found in connection.execute(query))
