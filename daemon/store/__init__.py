"""All that is durable: the event log and its projections, users and keys, chain cursors."""

from daemon.store.engine import open_store, read_store
from daemon.store.memory import MemoryStore
from daemon.store.shared import SharedStore, open_shared_store
from daemon.store.sql import SqlStore

__all__ = [
    "MemoryStore",
    "SharedStore",
    "SqlStore",
    "open_shared_store",
    "open_store",
    "read_store",
]
