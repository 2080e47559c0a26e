"""Registers the helpers that every test may use."""

import os

# Before grpcio is imported: its threads come back in a forked child, even one that is about to
# become another program, and crash there. Starting PostgreSQL as another user needs such a fork.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

pytest_plugins = [
    "tests.helpers.collecting",
    "tests.helpers.fixtures",
    "tests.helpers.no_silent_skips",
]
