"""What the command `tallyd` calls first: how the process collects its garbage.

Imports make none, so none is looked for meanwhile: the collector would walk all that is imported
again and again, an eighth of every command's start.
"""

import gc

COLLECT_AFTER = 5_000, 10, 20
"""New objects, then collections of these, then collections of those, before everything is walked.

That stops the daemon for a tenth of a second when some thousand readers are connected, and by
Python's own thresholds it happened every other second while they came.
"""


def main() -> int:
    """Import the command line, and run it."""
    gc.disable()
    from daemon.__main__ import main as run  # noqa: PLC0415 - that is what this module is for

    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    gc.enable()
    return run()
