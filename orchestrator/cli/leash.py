"""Runs a program that must not outlive us: ``python -m orchestrator.cli.leash PROGRAM ARGUMENT…``.

Whoever holds the other end of our standard input holds the leash.  Once it is let go, on purpose
or because its holder was killed, the program gets SIGTERM, and ``GRACE_S`` later SIGKILL with all
that it started.  A process of its own does this, as nobody can act after a ``kill -9``.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

#: A worker finishes its running steps meanwhile; what it does not finish is attempted again.
GRACE_S = 10.0


def run(program: list[str]) -> int:
    """Run `program` to its end and return its exit code, as a shell would give it."""
    # A group of its own: what it has started can be ended with it.
    child = subprocess.Popen(program, stdin=subprocess.DEVNULL, start_new_session=True)
    ended = threading.Event()
    threading.Thread(target=_end_when_let_go, args=(child.pid, ended), daemon=True).start()
    # Looked at, not yet collected: until then its process id, and its group's, stay its own.
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    ended.set()
    _kill_group(child.pid)
    code = child.wait()
    return code if code >= 0 else 128 - code


def _end_when_let_go(pid: int, ended: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass  # nobody writes; the end of the stream is the message
    if ended.is_set():
        return
    os.kill(pid, signal.SIGTERM)
    if not ended.wait(GRACE_S):
        _kill_group(pid)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left in it
        os.killpg(pid, signal.SIGKILL)


if __name__ == "__main__":
    # Ctrl-C and the like are for the holder, who lets go when it is time.
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    sys.exit(run(sys.argv[1:]))
