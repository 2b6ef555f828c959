"""The workers of a test: every attempt carried out in place, by the protocol of the product.

TW1  One attempt at a time, in the order in which they were sent; local steps first.
TW2  A fault strikes an attempt that would have run, never a copy that is refused anyway.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import Any

from celery import Celery

from orchestrator.core.definition import Codec
from orchestrator.core.interceptors import Interceptor
from orchestrator.core.limits import CLAIM_TTL_MS
from orchestrator.core.values import Json, canonical
from orchestrator.engine.ports import Outgoing
from orchestrator.step import RunningStep, StepInfo, current
from orchestrator.store.ports import (
    AttemptKey,
    Claim,
    ClaimAnswer,
    Message,
    PostAnswer,
    WorkerStore,
)
from orchestrator.testing.attempts import Attempt, Bodies
from orchestrator.testing.holds import Ends, Held, error_of
from orchestrator.testing.plan import Fate, Fault, Plan
from orchestrator.testing.store import EnvironmentStore, MemoryBlobs
from orchestrator.worker import outcomes
from orchestrator.worker.header import (
    HEADER,
    encode_arguments,
    find_key,
    write_header,
)
from orchestrator.worker.patience import Patience
from orchestrator.worker.protocol import StepProtocol, Work, info_of

_QUEUE = "steps"
#: Begins the tokens of claims, but for those of local steps, which are the orchestrator's.
_WORKER = "worker/"


class Dispatcher:
    """See `engine.ports.Dispatcher`: a message is the task's name and the product's header."""

    def message(self, outgoing: Outgoing) -> Message:
        """See `Dispatcher.message`."""
        header = write_header(outgoing, encode_arguments(outgoing))
        body = f'{{"task":{json.dumps(outgoing.task)},"header":{header}}}'
        return Message(queue=_QUEUE, body=body.encode())

    def publish(self, messages: object) -> None:
        """See `Dispatcher.publish`; the store is its own broker."""
        raise AssertionError("nothing goes through an outbox here")


class Workers:
    """Carries out what was sent; also the local steps of the orchestrator (`StepsHere`)."""

    def __init__(
        self,
        app: Celery,
        store: EnvironmentStore,
        blobs: MemoryBlobs,
        codec: Codec,
        plan: Plan,
        interceptors: Sequence[Interceptor] = (),
    ) -> None:
        self._interceptors = interceptors
        self._store = store
        self._blobs = blobs
        self._codec = codec
        self._plan = plan
        self._dispatcher = Dispatcher()
        self._local: deque[tuple[bytes, str]] = deque()
        #: Attempts that a worker of ours has begun: running now, or held.
        self.begun: dict[AttemptKey, tuple[str, RunningStep]] = {}
        self.held: dict[AttemptKey, Held] = {}
        self.attempts: list[Attempt] = []
        self.assertions: list[AssertionError] = []
        self._bodies = Bodies(app, plan, blobs, codec, self.assertions)
        self._token = 0
        self.ends = Ends(self._waiting, self._run_held, self._post_held, self._drop)

    # --- steps of the orchestrator (`StepsHere`) ----------------------------------------------

    def submit(self, outgoing: Outgoing, token: str) -> None:
        """See `StepsHere.submit`."""
        self._local.append((self._dispatcher.message(outgoing).body, token))

    def cancel(self, key: AttemptKey) -> None:
        """See `StepsHere.cancel`; one that has not begun learns it from its claim."""
        if key in self.begun:
            self.begun[key][1].cancel()

    def renew_due(self, now_ms: int, *, ttl_ms: int) -> None:
        """See `StepsHere.renew_due`."""
        self.renew()

    def die_with_orchestrator(self) -> None:
        """Forget the local steps that have not ended."""
        self._local.clear()
        for key, (token, _) in list(self.begun.items()):
            if not token.startswith(_WORKER):
                self._forget(key)

    # --- attempts -------------------------------------------------------------------------------

    def work(self) -> int:
        """Carry out all that waits; return how many messages that were."""
        count = 0
        queue = self._store.queues[_QUEUE]
        while (self._local or queue) and not self.assertions:
            body, token = self._local.popleft() if self._local else (queue.popleft(), "")
            self._carry_out(body, token)
            count += 1
        return count

    def renew(self) -> int:
        """Renew the claims of all that has begun, and stop what is no longer wanted.

        Return how many were stopped.
        """
        tokens = {key: token for key, (token, _) in self.begun.items()}
        stopped = 0
        for key, answer in self._store.renew(tokens, ttl_ms=CLAIM_TTL_MS).items():
            if answer is ClaimAnswer.GRANTED:
                continue
            self.begun[key][1].cancel()
            held = self.held.get(key)
            if held is None:
                continue
            stopped += 1
            if answer is ClaimAnswer.CANCELLED:
                self._store.post_outcome(key, held.token, outcomes.cancelled("stopped on request"))
            self._forget(key)
        return stopped

    def _carry_out(self, message: bytes, local_token: str) -> None:
        key, task, header = _read(message)
        token = local_token or self._new_token()
        work = self._bodies.work(key, header, task)
        fault = self._plan.next(task) if self._is_wanted(key, local_token) else None
        match fault.fate if fault else None:
            case Fate.LOSE_MESSAGE:
                return
            case Fate.HOLD:
                assert fault is not None
                self._hold(work, token, fault)
            case Fate.DUPLICATE:
                # One copy while the body runs, and one when it is over.
                self._run(work, token, fault, lambda: self._run(work, self._new_token(), None))
                self._run(work, self._new_token(), None)
            case _:
                self._run(work, token, fault)

    def _is_wanted(self, key: AttemptKey, local_token: str) -> bool:
        row = self._store.read_step(key.run_key, key.step)
        state = "claimed" if local_token else "scheduled"
        return row.get("attempt") == str(key.attempt) and row.get("state") == state

    def _run(
        self,
        work: Work,
        token: str,
        fault: Fault | None,
        first: Callable[[], None] = lambda: None,
    ) -> None:
        def call(*args: Any, **kwargs: Any) -> Any:
            first()
            info = current()
            assert info is not None
            self._note(work, info, fault)
            if fault is not None and fault.fate is Fate.FAIL:
                raise error_of(fault.extra)
            if fault is not None and fault.fate is Fate.LOSE_BEFORE:
                return None
            return work.call(*args, **kwargs)

        is_lost = fault is not None and fault.fate in (Fate.LOSE_BEFORE, Fate.LOSE_AFTER)
        store: WorkerStore = _DyingWorkersStore(self._store) if is_lost else self._store
        protocol = StepProtocol(
            store,
            self._blobs,
            self._codec,
            keeper=_Keeper(self),
            patience=Patience(0),
            tokens=lambda: token,
            interceptors=self._interceptors,
        )
        called = replace(work, call=call)
        # What the body raised is its outcome by now; a copy that is refused ends as an Ignore.
        with suppress(Exception, SystemExit):
            protocol.run(called)
        if self.begun.get(work.key, ("",))[0] == token:
            self._forget(work.key)

    def _note(self, work: Work, info: StepInfo, fault: Fault | None) -> None:
        self.attempts.append(
            Attempt(
                task=work.task,
                call=self._bodies.arguments(work),
                info=info,
                fault=fault.fate.value if fault else "",
            )
        )

    # --- held attempts --------------------------------------------------------------------------

    def _hold(self, work: Work, token: str, fault: Fault) -> None:
        claim = self._store.claim(work.key, token, ttl_ms=CLAIM_TTL_MS)
        assert claim.answer is ClaimAnswer.GRANTED, "it was looked at a moment ago"
        key, info = work.key, info_of(work, claim, token)
        step = RunningStep(info, lambda details: self._beat(key, token, details))
        self._note(work, info, fault)
        self.begun[key] = token, step
        self.held[key] = Held(key, token, self.attempts[-1], work, step, fault)

    def _beat(self, key: AttemptKey, token: str, details: object) -> bool:
        value = self._codec.encode(details)
        canonical(value)
        return self._store.heartbeat(key, token, value) is ClaimAnswer.GRANTED

    def _waiting(self, fault: Fault) -> list[Held]:
        return [held for held in self.held.values() if held.fault is fault]

    def _run_held(self, held: Held) -> None:
        self._forget(held.key)
        self.attempts.remove(held.attempt)
        self._run(held.work, held.token, None)

    def _post_held(self, held: Held, outcome: Any) -> None:
        if isinstance(outcome, BaseException):
            body = outcomes.failed(outcome)
        else:
            body = outcomes.completed(outcome, codec=self._codec, blobs=self._blobs)
        self._forget(held.key)
        self._store.post_outcome(held.key, held.token, body)

    def _drop(self, held: Held) -> None:
        self._forget(held.key)

    def _forget(self, key: AttemptKey) -> None:
        self.begun.pop(key, None)
        self.held.pop(key, None)

    def _new_token(self) -> str:
        self._token += 1
        return f"{_WORKER}{self._token}"


class _Keeper:
    """See `worker.keepers.Keeper`: the environment renews, and its own thread runs the body."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def held_back(self) -> AbstractContextManager[None]:
        """See `Keeper.held_back`."""
        return nullcontext()

    @contextmanager
    def kept(self, key: AttemptKey, token: str, step: RunningStep) -> Iterator[None]:
        """See `Keeper.kept`."""
        self._workers.begun[key] = token, step
        yield

    def body(self, key: AttemptKey, step: RunningStep) -> AbstractContextManager[None]:
        """See `Keeper.body`."""
        return nullcontext()

    def is_worker_stopping(self) -> bool:
        """See `Keeper.is_worker_stopping`."""
        return False


class _DyingWorkersStore:
    """The store as a worker sees it that dies before it can post what its body did."""

    def __init__(self, store: WorkerStore) -> None:
        self._store = store

    def claim(self, key: AttemptKey, token: str, *, ttl_ms: int) -> Claim:
        """See `WorkerStore.claim`."""
        return self._store.claim(key, token, ttl_ms=ttl_ms)

    def renew(
        self, claims: Mapping[AttemptKey, str], *, ttl_ms: int
    ) -> dict[AttemptKey, ClaimAnswer]:
        """See `WorkerStore.renew`."""
        return self._store.renew(claims, ttl_ms=ttl_ms)

    def heartbeat(self, key: AttemptKey, token: str, details: Json) -> ClaimAnswer:
        """See `WorkerStore.heartbeat`."""
        return self._store.heartbeat(key, token, details)

    def detach(self, key: AttemptKey, token: str) -> ClaimAnswer:
        """Leave nothing: the worker is dead, and its claim expires."""
        return ClaimAnswer.GRANTED

    def post_outcome(self, key: AttemptKey, token: str, body: Mapping[str, Json]) -> PostAnswer:
        """Post nothing: the worker is dead."""
        return PostAnswer.POSTED


def _read(message: bytes) -> tuple[AttemptKey, str, Mapping[str, Json]]:
    data = json.loads(message)
    key = find_key({HEADER: data["header"]})
    assert key is not None, "the dispatcher of a test writes the product's header"
    return key, data["task"], data["header"]
