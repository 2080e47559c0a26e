"""How the holder of a duty answers posts: one that fails must not take it down."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from actors.ports import Log, PersistentError, TransientError

Answer = Callable[[bytes], Awaitable[bytes]]


def answering(
    answers: Mapping[str, Answer], *, duty: str, who: str, of: str = "", log: Log
) -> Callable[[str, bytes], Awaitable[bytes]]:
    """What `Duties.serve` takes, from an answer for each kind of post.

    `who` holds the duty and `of` is what all of its kinds are done to, in words for the errors.
    """

    async def answer(kind: str, body: bytes) -> bytes:
        do = answers.get(kind)
        if do is None:
            raise PersistentError(
                f"{who} does not know how to {kind!r}: run the same version of tallyd everywhere"
            )
        try:
            return await do(body)
        except (TransientError, PersistentError):
            raise
        except Exception as error:
            # A post that makes us crash would be given to the next holder, and to the one after.
            log.error(
                "a post could not be answered",
                duty=duty,
                kind=kind,
                error=repr(error),
                exc_info=error,
            )
            raise TransientError(f"{who} failed to {kind}{of}: its log says why") from error

    return answer
