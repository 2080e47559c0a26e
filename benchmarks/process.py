"""What a process uses, as Linux tells it (proc(5))."""

from __future__ import annotations

import os
from pathlib import Path


def cpu_s(pid: int) -> float:
    """Seconds of processor that the process has used, all threads, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def waits_s(pid: int) -> dict[str, float]:
    """By thread: seconds that it was ready to run and had to wait for a processor."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return {task.parent.name: int(task.read_text().split()[1]) / 1e9 for task in tasks}


def memory_bytes(pid: int) -> int:
    """Resident memory, shared pages included."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"process {pid} has no memory")
