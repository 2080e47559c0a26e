"""Compile the contracts: --write replaces contracts.json, otherwise it is compared."""

import argparse
import json
import sys

from tests.nodes.ton import CONTRACTS, CompilerError, compile_all


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.nodes.ton", description=__doc__.strip())
    parser.add_argument("--write", action="store_true", help="replace contracts.json")
    options = parser.parse_args()
    try:
        made = compile_all()
    except CompilerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.write:
        CONTRACTS.write_text(json.dumps(made, indent=1) + "\n")
        return 0
    if made != json.loads(CONTRACTS.read_text()):
        print("contracts.json is out of date: run it with --write", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
