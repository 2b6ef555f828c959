"""The children of a process as the kernel tells them, and signals to them.

P1  A process id alone names nobody: with the time of birth it does, also once it was given anew.
"""

import os
import signal
from pathlib import Path


def children_of(pid: int) -> list[tuple[int, str]]:
    """Return the children of a process, each with when it was born."""
    try:
        pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [(int(child), born) for child in pids if (born := born_at(int(child)))]


def born_at(pid: int) -> str:
    """Return when a process was born, in ticks since the machine's start; "" if it has gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]


def age_s(born: str) -> float:
    """Return for how many seconds a process of this birth has lived."""
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    return uptime_s - int(born) / os.sysconf("SC_CLK_TCK")


def send(number: signal.Signals, pid: int, born: str) -> bool:
    """Send a signal to the process of this birth; return whether it was there to get it (P1)."""
    if born_at(pid) != born:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
