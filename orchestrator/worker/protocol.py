"""From a message to an outcome: claim, arguments, body, result, post.

SP1  The body runs only under a claim; a copy that is refused ends as Celery's ``Ignore``.
SP2  A claimed attempt ends with exactly one outcome posted, unless the process dies or the store
     stays away for ``OUTCOME_POST_MS_MAX``: then the claim expires; or the body raises
     `CompleteLater`: then the claim is left to whoever has the token.
SP3  To Celery and its monitors a step looks like any task: it succeeds, fails or retries there too.
"""

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from celery.exceptions import Ignore

from orchestrator import step as face
from orchestrator.core.definition import Codec
from orchestrator.core.errors import (
    ApplicationError,
    CompleteLater,
    InvalidPayload,
    OrchestratorError,
    StepCancelled,
    StoreUnavailable,
)
from orchestrator.core.failure import Failure
from orchestrator.core.interceptors import Interceptor, chained
from orchestrator.core.limits import CLAIM_TTL_MS
from orchestrator.core.values import Json
from orchestrator.engine.ports import BlobStore
from orchestrator.store.ports import AttemptKey, Claim, ClaimAnswer, PostAnswer, WorkerStore
from orchestrator.store.step_tokens import encode_token
from orchestrator.worker import outcomes
from orchestrator.worker.arguments import load_arguments
from orchestrator.worker.header import StepHeader, read_header, read_headers
from orchestrator.worker.identity import is_pool_child, new_token
from orchestrator.worker.intercepting import call_of
from orchestrator.worker.keepers import Keeper, keeper_of_this_process
from orchestrator.worker.patience import Patience

logger = logging.getLogger("orchestrator.worker")

#: What Celery is shown of results and failures where payloads are sealed.
_SEALED = "(sealed)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a message asks for.

    Args:
        key: The attempt.
        header: The value of the message's header.
        task: Name of the task.
        function: Its body, to look at; bound, if it is a method.
        call: What runs it.
    """

    key: AttemptKey
    header: Mapping[str, Json]
    task: str
    function: Callable[..., Any]
    call: Callable[..., Any]


@dataclass(frozen=True, slots=True)
class _Held:
    """An attempt under a claim of ours."""

    key: AttemptKey
    token: str


class StepProtocol:
    """Carries out steps; one per process.

    Args:
        store: See `WorkerStore`.
        blobs: For large arguments and results.
        codec: See `Codec`.
        keeper: Renews claims meanwhile; None for the one that fits this process' pool.
        patience: How long to ask a store that does not answer.
        unseal: Opens the text of arguments that were sealed on their way.
        tokens: Makes the token of each claim.
        interceptors: What stands around the bodies.
    """

    def __init__(  # noqa: PLR0913 - the composition of a worker's side
        self,
        store: WorkerStore,
        blobs: BlobStore,
        codec: Codec,
        *,
        keeper: Keeper | None = None,
        patience: Patience | None = None,
        unseal: Callable[[str], str] = str,
        tokens: Callable[[], str] = new_token,
        interceptors: Sequence[Interceptor] = (),
    ) -> None:
        self._interceptors = interceptors
        self.store = store
        self._blobs = blobs
        self._codec = codec
        self._keeper = keeper or keeper_of_this_process(store)
        self._patience = patience or Patience()
        self._unseal = unseal
        self._tokens = tokens

    def run(self, work: Work) -> Any:
        """Carry out `work` and return what its body returned.

        Raises:
            Ignore: The attempt is not ours to run, or the store could not be asked (SP1).
            Exception: Whatever the body raised, after it was posted (SP3).
        """
        with self._keeper.held_back():
            held = _Held(work.key, self._tokens())
            claim = self._claim(held)
            step = face.RunningStep(
                info_of(work, claim, held.token, self._unseal),
                lambda details: self._beat(held, details),
                self._keeper.is_worker_stopping,
                has_own_process=is_pool_child(),
            )
            with self._keeper.kept(held.key, held.token, step):
                return self._run_claimed(work, held, step)

    def _claim(self, held: _Held) -> Claim:
        def ask() -> Claim:
            return self.store.claim(held.key, held.token, ttl_ms=CLAIM_TTL_MS)

        try:
            claim = self._patience.ask(ask, held.key, "claim")
        except StoreUnavailable as error:
            # Should the claim have been granted after all, it expires.
            logger.error("%s: not run, the store cannot be asked: %s", held.key, error.reason)  # noqa: TRY400
            raise Ignore("the store cannot be asked") from error
        if claim.answer is ClaimAnswer.CANCELLED:
            self._post(held, outcomes.cancelled("cancelled before it began", ran=False))
            raise Ignore("cancelled before it began")
        if claim.answer is ClaimAnswer.REFUSED:
            logger.info("%s: not run, this copy is not wanted or another one runs", held.key)
            raise Ignore("this copy is not wanted")
        return claim

    def _run_claimed(self, work: Work, held: _Held, step: face.RunningStep) -> Any:
        try:
            args, kwargs = self._arguments(work)
        except InvalidPayload as error:
            self._post(held, outcomes.refused("InvalidPayload", str(error)))
            raise
        except StoreUnavailable as error:
            self._post(held, outcomes.failed_before("StoreUnavailable", str(error)))
            raise
        try:
            with face.running(step), self._keeper.body(held.key, step):
                call = call_of(step.info, args, kwargs)
                result = chained(
                    self._interceptors,
                    "execute_step",
                    lambda made: call_body(work.call, list(made.args), dict(made.kwargs), step),
                )(call)
        except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
            # Of a child the main process tells, which knows whether it was revoked or lost.
            if not is_pool_child():
                self._post_once(held, outcomes.lost(f"{type(error).__name__} ended the body"))
            raise
        except CompleteLater as error:
            self._leave(held)
            raise Ignore("completed later, by its token") from error
        except BaseException as error:  # noqa: BLE001 - the boundary: recorded, and raised again
            self._fail(held, step, error)
        else:
            self._complete(held, result)
            # Monitors are shown what Celery gets; a sealed result is not for them.
            return result if self._unseal is str else _SEALED

    def _arguments(self, work: Work) -> tuple[list[Any], dict[str, Any]]:
        header = _checked_header(work, self._unseal)
        return load_arguments(
            work.function, header.args, header.kwargs, blobs=self._blobs, codec=self._codec
        )

    def _complete(self, held: _Held, result: object) -> None:
        def encode() -> outcomes.Body:
            return outcomes.completed(result, codec=self._codec, blobs=self._blobs)

        try:
            body = self._patience.ask(encode, held.key, "storing the result")
        except StoreUnavailable as error:
            body = outcomes.failed(error)
        self._post(held, body)
        failure = body.get("failure")
        if isinstance(failure, dict):
            raise ApplicationError(str(failure["message"]), type=str(failure["type"]))

    def _fail(self, held: _Held, step: face.RunningStep, error: BaseException) -> None:
        """Post what `error` means, and raise it, or what Celery takes in its place."""
        is_stopped = step.is_cancelled and outcomes.is_interruption(error)
        body = outcomes.cancelled("stopped on request") if is_stopped else outcomes.failed(error)
        self._post(held, body)
        if isinstance(error, asyncio.CancelledError):
            # No Exception: Celery would take it for the end of its child process.
            info = step.info
            failure = Failure(type="StepCancelled", message="cancelled")
            raise StepCancelled(info.step, info.task, info.attempt, failure) from error
        if self._unseal is not str:
            # Celery logs it and tells monitors; the history has its words, under seal.
            raise ApplicationError(_SEALED, type=type(error).__name__) from None
        raise error

    def _leave(self, held: _Held) -> None:
        """Let the claim outlive this worker; whoever has the token posts the outcome."""
        try:
            answer = self._patience.ask(
                lambda: self.store.detach(held.key, held.token), held.key, "leaving the claim"
            )
        except StoreUnavailable as error:
            # The claim expires, and another attempt follows with a token of its own.
            logger.error("%s: not left to its token: %s", held.key, error.reason)  # noqa: TRY400
            return
        if answer is ClaimAnswer.REFUSED:
            logger.info("%s: its token was used already, or the attempt was given up", held.key)

    def _post(self, held: _Held, body: outcomes.Body) -> None:
        def post() -> PostAnswer:
            return self.store.post_outcome(held.key, held.token, body)

        try:
            answer = self._patience.ask(post, held.key, "outcome")
        except StoreUnavailable as error:
            logger.error("%s: outcome not posted: %s", held.key, error.reason)  # noqa: TRY400
            return
        if answer in (PostAnswer.SUPERSEDED, PostAnswer.GONE):
            logger.warning("%s: outcome came too late, it is %s", held.key, answer.value)

    def _post_once(self, held: _Held, body: outcomes.Body) -> None:
        """Post without patience: the process ends."""
        try:
            self.store.post_outcome(held.key, held.token, body)
        except StoreUnavailable as error:
            logger.warning("%s: outcome not posted: %s", held.key, error.reason)

    def _beat(self, held: _Held, details: object) -> bool:
        """Note progress; False when the step is no longer wanted."""
        value = outcomes.heartbeat_details(details, self._codec)
        try:
            return self.store.heartbeat(held.key, held.token, value) is ClaimAnswer.GRANTED
        except StoreUnavailable as error:
            logger.info("%s: heartbeat skipped: %s", held.key, error.reason)
            return True


def _checked_header(work: Work, unseal: Callable[[str], str]) -> StepHeader:
    try:
        return read_header(work.header, work.key, unseal)
    except ValueError as error:
        raise InvalidPayload("message", str(error)) from error


def info_of(
    work: Work, claim: Claim, token: str, unseal: Callable[[str], str] = str
) -> face.StepInfo:
    """Return what a body is told of the attempt that was claimed under `token`."""
    key, header = work.key, work.header
    try:
        headers = read_headers(header, unseal)
    except (ValueError, OrchestratorError):
        headers = {}  # The reader of the arguments meets the same, and says so.
    return face.StepInfo(
        workflow_id=key.workflow_id,
        workflow=str(header.get("type") or ""),
        run=key.run,
        step=key.step,
        attempt=key.attempt,
        idempotency_key=str(header.get("key") or ""),
        compensates=str(header.get("compensates") or ""),
        details=claim.details,
        task=work.task,
        token=encode_token(key, token),
        headers=headers,
    )


def call_body(
    call: Callable[..., Any], args: list[Any], kwargs: dict[str, Any], step: face.RunningStep
) -> Any:
    """Return what a body returns; a coroutine runs on a loop of its own, which a cancel reaches."""
    result = call(*args, **kwargs)
    if inspect.iscoroutine(result):
        return asyncio.run(_cancellable(result, step))
    return result


async def _cancellable(coroutine: Coroutine[Any, Any, Any], step: face.RunningStep) -> Any:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    def wake() -> None:
        # A loop that is closed by now has nothing left to cancel.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(task.cancel)

    step.on_cancel(wake)
    return await coroutine
