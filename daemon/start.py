"""What the command `tallyd` calls first: imports make no garbage, so none is looked for meanwhile.

The collector would walk all that is imported again and again, an eighth of every command's start.
"""

import gc


def main() -> int:
    """Import the command line, and run it."""
    gc.disable()
    from daemon.__main__ import main as run  # noqa: PLC0415 - that is what this module is for

    gc.freeze()
    gc.enable()
    return run()
