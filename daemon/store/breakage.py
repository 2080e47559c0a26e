"""The end of an open store because of a failure that none of its callers can be told of."""

from __future__ import annotations

import trio


class Breakage:
    """What broke, and the scope that ends with it. Belongs to the Trio thread."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        """To be put around everything that uses the store."""
        self.error: Exception | None = None
        """To be raised where the store was opened."""

    def fail(self, error: Exception) -> None:
        """Cancel the scope; the first failure is the one that is raised."""
        if self.error is None:
            self.error = error
            self.scope.cancel()
