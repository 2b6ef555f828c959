"""Programs that the tour starts and kills.

K1  None outlives the tour, however that one ends: a watcher beside each sees a pipe close, and
    kills the program with all that it started.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

#: Kills the group of the program, once our end of the pipe is closed.
_WATCHER = 'cat >/dev/null; kill -s KILL -- "-$0" 2>/dev/null'
#: Characters of a log that are worth showing when its program ended by itself.
_LOG_TAIL_CHARS = 1_500


class Program:
    """One program in a process group of its own, which bears its process id.

    Args:
        name: What the tour calls it.
        arguments: The command line.
        environment: Its whole environment.
        log_path: Where its output goes, after what is there.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str], log_path: Path
    ) -> None:
        self.name = name
        self.log_path = log_path
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                # Ctrl-C reaches the tour alone, which then stops everything in order.
                start_new_session=True,
            )
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHER, str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Process id of the program, and of its group."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the program itself has ended."""
        return self._process.poll() is not None

    def log_tail(self) -> str:
        """Return the end of its log."""
        return self.log_path.read_text(errors="replace")[-_LOG_TAIL_CHARS:].strip()

    def kill(self) -> int:
        """End the program and all that it started with SIGKILL; return its exit code."""
        # Not yet collected, so that its id, and its group's, cannot be somebody else's by now.
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left in it
            os.killpg(self.pid, signal.SIGKILL)
        code = self._process.wait()
        self._let_go()
        return code

    def ask_to_stop(self) -> None:
        """Send SIGTERM to the program, which stops the others of its group itself."""
        if not self.has_ended:
            self._process.send_signal(signal.SIGTERM)

    def wait_or_kill(self, deadline: float) -> None:
        """Wait for its end until `deadline` (monotonic seconds), then kill what is left."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            # Longer than a moment also when the deadline has passed: it may just have ended.
            self._process.wait(max(0.1, deadline - time.monotonic()))
        self.kill()

    def _let_go(self) -> None:
        # The watcher first: it must not kill a group that may be somebody else's by then.
        self._watcher.kill()
        self._watcher.wait()
        assert self._watcher.stdin is not None
        self._watcher.stdin.close()
