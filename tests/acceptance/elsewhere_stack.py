"""A stack with the app of elsewhere_app.py, behind a password, whose clocks can be put wrong."""

import os
from collections.abc import Sequence

from orchestrator.store.connect import connect
from tests.acceptance import elsewhere_app
from tests.acceptance.child import Child
from tests.acceptance.stack import APP, Stack, client_of

#: Stands in no key, message or log.
PASSWORD = "correct-horse-battery"
_ELSEWHERE = elsewhere_app.__name__

#: Runs before anything else of a process: what asks for the time gets another one.
_SKEW = """
import time
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + {skew_s}
time.time_ns = lambda: _time_ns() + {skew_s} * 1_000_000_000
"""


class ElsewhereStack(Stack):
    """See the module; a server that is started again has no password any more."""

    def __enter__(self) -> "ElsewhereStack":
        super().__enter__()
        return self

    def spawn(self, name: str, command: Sequence[str], **environment: str) -> Child:
        """Start a program with the other app."""
        named = [_ELSEWHERE if part == APP else part for part in command]
        return super().spawn(name, named, **environment)

    def protect(self) -> None:
        """Ask everybody for a password from now on."""
        self.redis.config_set("requirepass", PASSWORD)
        self.redis.close()
        url = self.server.url.replace("redis://", f"redis://:{PASSWORD}@")
        self.redis = connect(url)
        self.orc = client_of(url)
        self.celery = self.orc.app
        self.environment["CELERY_BROKER_URL"] = url


def url_of(stack: Stack) -> str:
    """Return the address of the server, password included."""
    return stack.environment["CELERY_BROKER_URL"]


def skewed(stack: Stack, seconds: int) -> dict[str, str]:
    """Return the environment of a process whose clock is wrong by `seconds`."""
    directory = stack.directory / f"skew{seconds}"
    directory.mkdir(exist_ok=True)
    (directory / "sitecustomize.py").write_text(_SKEW.format(skew_s=seconds))
    return {"PYTHONPATH": f"{directory}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


def now_ms(stack: Stack) -> int:
    """Return the server's time."""
    seconds, microseconds = stack.redis.time()
    return int(seconds) * 1000 + int(microseconds) // 1000
