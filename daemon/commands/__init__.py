"""The commands of `tallyd`, one module each: `add` puts it on the parser, `run` does it."""
