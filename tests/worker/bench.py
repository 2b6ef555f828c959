"""An owner's hands for tests of workers: sends attempts, and reads what comes back.

The store and the workers are real; the owner is the test.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis

from orchestrator.core.values import Json
from orchestrator.dispatch import CeleryDispatcher
from orchestrator.engine.ports import Outgoing
from orchestrator.store.ports import AttemptKey, CommitResult, Kind, Message, RunKey, StepRow
from orchestrator.store.redis import RedisStore
from tests.store.world import World

MODULE = "tests.worker.steps_app"
ROOT = Path(__file__).resolve().parents[2]
#: Longest wait for anything; a test that needs it has failed.
WAIT_MS = 30_000


@dataclass
class Bench:
    """One run whose steps a test sends by hand."""

    world: World
    client: Redis
    dispatcher: CeleryDispatcher
    env: dict[str, str]
    directory: Path
    workflow_id: str = "order-42"
    log_start: int = 0
    run: RunKey = field(init=False)
    seen: str = "0"
    outcomes: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    late: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.run = self.world.open_run(self.workflow_id)

    def send(
        self, task: str, *args: Json, step: int = 1, attempt: int = 1, **options: Any
    ) -> AttemptKey:
        """Send one attempt, as the owner does, and return its key."""
        key = self.key(step, attempt)
        queue = options.pop("queue", None)
        message = self.message(key, task, *args, queue=queue, kwargs=options.pop("kwargs", {}))
        row = StepRow(step=step, attempt=attempt, **options)
        self.commit(steps_sent=[row], messages=[message])
        return key

    def key(self, step: int, attempt: int = 1) -> AttemptKey:
        """Return the key of an attempt of the run."""
        return AttemptKey(
            workflow_id=self.run.workflow_id, run=self.run.run, step=step, attempt=attempt
        )

    def message(
        self,
        key: AttemptKey,
        task: str,
        *args: Json,
        kwargs: dict[str, Json] | None = None,
        queue: str | None = None,
    ) -> Message:
        """Return the message of an attempt."""
        name = task if "." in task else f"{MODULE}.{task}"
        outgoing = Outgoing(
            key=key,
            task=name,
            args=list(args),
            kwargs=kwargs or {},
            idempotency_key=f"{key.run_key}.{key.step}",
            workflow="order",
            queue=queue,
        )
        return self.dispatcher.message(outgoing)

    def push(self, message: Message) -> None:
        """Send a message once more, outside of any commit."""
        self.client.lpush(message.queue, message.body)

    def commit(self, **parts: Any) -> None:
        """Commit one event with `parts`."""
        assert self.world.commit(self.run, ["event"], **parts) is CommitResult.COMMITTED

    def outcome(self, key: AttemptKey, *, wait_ms: int = WAIT_MS) -> dict[str, Any]:
        """Return the outcome of an attempt, once it is in."""
        partition = self.world.partition(self.workflow_id)
        place = (key.step, key.attempt)
        waits = wait_ms // 500
        while place not in self.outcomes:
            assert waits > 0, f"no outcome of {key}: {self.log()}"
            waits -= 1
            found = self.world.store.take_inbox({partition: self.seen}, count=100, block_ms=500)
            for entry in found.get(partition, []):
                self.seen = entry.id
                body: dict[str, Any] = dict(entry.body)
                if entry.kind is Kind.OUTCOME:
                    at = (body["step"], body["attempt"])
                    assert at not in self.outcomes, f"{at} has two outcomes"
                    self.outcomes[at] = body
                elif entry.kind is Kind.LATE_OUTCOME:
                    self.late.append(body)
        return self.outcomes[place]

    def diary(self) -> list[str]:
        """Return what the bodies noted so far."""
        return [_text(line) for line in self.client.lrange("diary", 0, -1)]

    def next_note(self) -> str:
        """Return and remove the oldest note, once there is one."""
        found = self.client.blpop(["diary"], timeout=WAIT_MS / 1000)
        assert found is not None, f"no note: {self.log()}"
        return _text(found[1])

    def claim_state(self, key: AttemptKey) -> str:
        """Return the state of the attempt's step."""
        return self.world.store.read_step(self.run, key.step).get("state", "")

    def log(self) -> str:
        """Return what the workers logged since this bench was made."""
        paths = sorted(self.directory.glob("worker*.log"))
        return "\n".join(path.read_text() for path in paths)[self.log_start :]

    def expiry_ms(self, key: AttemptKey) -> float | None:
        """Return when the attempt's claim expires, or None where there is no claim."""
        assert isinstance(self.world.store, RedisStore)
        claims = self.world.store.keys.claims(self.world.partition(self.workflow_id))
        return self.client.zscore(claims, str(key))

    def watch_renewals(self, key: AttemptKey, *, times: int) -> None:
        """Wait until the claim has been renewed so often, and see that it never expired."""
        seen: list[float] = []
        for _ in range(WAIT_MS // 20):
            assert self.world.expired_claims(self.workflow_id) == []
            expiry_ms = self.expiry_ms(key)
            assert expiry_ms is not None, f"no claim on {key}: {self.log()}"
            if not seen or expiry_ms > seen[-1]:
                seen.append(expiry_ms)
            if len(seen) > times:
                return
            pause()
        raise AssertionError(f"{key} was renewed {len(seen) - 1} times: {self.log()}")

    def wait_for_log(self, text: str, process: "subprocess.Popen[bytes]") -> None:
        """Wait until a worker has logged `text`."""
        for _ in range(WAIT_MS // 20):
            if text in self.log():
                return
            assert process.poll() is None, self.log()
            pause()
        raise AssertionError(f"{text!r} is not in the log: {self.log()}")

    @contextmanager
    def worker(
        self, *options: str, python: tuple[str, ...] = (), **env: str
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """A real worker process, ready, and ended with all its children afterwards."""
        number = len(list(self.directory.glob("worker*.log")))
        path = self.directory / f"worker{number}.log"
        command = [sys.executable, *python, "-m", "celery", "-A", MODULE, "worker", "-l", "INFO"]
        with path.open("wb") as log:
            process = subprocess.Popen(
                [*command, "--without-gossip", "--without-mingle", *options],
                cwd=ROOT,
                env={**os.environ, **self.env, **env},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self.wait_for_log(" ready.", process)
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(timeout=3)
                except subprocess.TimeoutExpired:
                    process.kill()
            process.wait()
            # Children outlive a main process that was killed.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _text(line: bytes | str) -> str:
    return line.decode() if isinstance(line, bytes) else line


def pause() -> None:
    """Let other processes work."""
    threading.Event().wait(0.02)
