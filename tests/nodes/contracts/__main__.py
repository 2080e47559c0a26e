"""Compile the contracts: --write replaces compiled.json, otherwise it is compared."""

import argparse
import json
import sys

from tests.nodes.contracts import COMPILED, CompilerError, compile_all


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.nodes.contracts", description=__doc__.strip()
    )
    parser.add_argument("--write", action="store_true", help="replace compiled.json")
    options = parser.parse_args()
    try:
        made = compile_all()
    except CompilerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.write:
        COMPILED.write_text(json.dumps(made, indent=1) + "\n")
        print(f"{len(made['contracts'])} contracts: {', '.join(made['contracts'])}")
        return 0
    if not COMPILED.exists() or made != json.loads(COMPILED.read_text()):
        print("compiled.json is out of date: run it with --write", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
