"""The outcome of a step whose body has ended already, from whoever has its token.

TH1  The first outcome counts.  The same one again changes nothing; after the run's end that needs
     its history, which a caller may not be allowed to read: then it is refused.  Another one by the
     same token, and any for an attempt that was given up meanwhile, is refused, and the history has
     a note of it (H6).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from orchestrator.client.port import run_in_place
from orchestrator.client.session import Session
from orchestrator.client.summary import history_event_of
from orchestrator.core.blobs import find_blob_ref
from orchestrator.core.errors import InvalidPayload, StepCancelled, StepClosed, StoreUnavailable
from orchestrator.core.events import StepAttemptFailed, StepCompleted, StepFailed, StepParked
from orchestrator.core.failure import Failure
from orchestrator.core.values import Json, canonical, digest
from orchestrator.store.ports import AttemptKey, ClaimAnswer, PostAnswer
from orchestrator.store.step_tokens import decode_token
from orchestrator.worker import outcomes

#: What an attempt's outcome can become in the history, as its event names itself.
_OUTCOMES = tuple(
    f'"{kind.__name__}"'.encode()
    for kind in (StepCompleted, StepFailed, StepAttemptFailed, StepParked)
)


class _OneAttempt:
    """What both handles know.

    Args:
        session: Returns the way to the store.
        token: What the body found as ``step.current().token``.

    Raises:
        InvalidPayload: No such token.
    """

    def __init__(self, session: Callable[[], Session], token: str) -> None:
        try:
            self._key, self._claim = decode_token(token)
        except ValueError as error:
            raise InvalidPayload("token of a step", str(error)) from error
        self._session = session

    @property
    def key(self) -> AttemptKey:
        """The attempt."""
        return self._key

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._key}>"

    def _closed(self) -> StepClosed:
        key = self._key
        return StepClosed(key.workflow_id, key.run, key.step, key.attempt)

    async def _post(self, body: outcomes.Body) -> None:
        session = self._session()
        body = {**body, "digest": digest([self._claim, body["kind"], _said(body)])}
        answer = await session.resend(
            lambda: session.store.post_outcome(self._key, self._claim, body)
        )
        if answer in (PostAnswer.SUPERSEDED, PostAnswer.GONE) and not await self._is_recorded(body):
            raise self._closed()

    async def _is_recorded(self, body: outcomes.Body) -> bool:
        """Return whether the history has this very outcome for the attempt, and may be read."""
        key = self._key
        try:
            history = await self._session().store.read_history(key.run_key)
        except StoreUnavailable:
            # Who ends steps need not be allowed to read (`completer` in ops/users.acl), and the
            # store has just said that nobody waits.
            return False
        for stored in history:
            if not any(name in stored.data for name in _OUTCOMES):
                continue
            event: Any = history_event_of(stored).event
            if (event.step, event.attempt) == (key.step, key.attempt):
                return not stored.is_blank and _said_by(event) == _said(body)
        return False

    async def _complete(self, result: object) -> None:
        session = self._session()
        body = outcomes.completed(result, codec=session.codec, blobs=session.blobs)
        failure = body.get("failure")
        if isinstance(failure, dict):
            raise InvalidPayload("result", str(failure["message"]))
        await self._post(body)

    async def _fail(self, error: BaseException | Failure) -> None:
        if not isinstance(error, Failure):
            await self._post(outcomes.failed(error))
            return
        try:
            canonical(error.as_json())
        except (TypeError, ValueError, RecursionError) as wrong:
            raise InvalidPayload("failure", str(wrong)) from wrong
        await self._post({"kind": "failed", "failure": error.bounded().as_json()})

    async def _cancelled(self) -> None:
        await self._post(outcomes.cancelled("stopped on request"))

    async def _heartbeat(self, details: object) -> None:
        session = self._session()
        try:
            value = outcomes.heartbeat_details(details, session.codec)
        except TypeError as error:
            raise InvalidPayload("details of a heartbeat", str(error)) from error
        answer = await session.resend(
            lambda: session.store.heartbeat(self._key, self._claim, value)
        )
        if answer is ClaimAnswer.REFUSED:
            raise self._closed()
        if answer is ClaimAnswer.CANCELLED:
            failure = Failure(
                type="StepCancelled", message="the workflow no longer wants this step"
            )
            raise StepCancelled(self._key.step, "", self._key.attempt, failure)


def _said(body: outcomes.Body) -> Json:
    """Return what makes an outcome the same one: its result, or its failure."""
    failure = body.get("failure")
    if not isinstance(failure, dict):
        return {"result": _digest_of(body.get("result"))}
    return {"failure": _without_traceback(Failure.from_json(failure).bounded()).as_json()}


def _said_by(event: StepCompleted | StepFailed | StepAttemptFailed | StepParked) -> Json:
    if isinstance(event, StepCompleted):
        return {"result": _digest_of(event.result)}
    return {"failure": _without_traceback(event.failure).as_json()}


def _digest_of(result: Json) -> str:
    # A reference and its value are one (`core.blobs` B1), and a sealed one differs each time.
    ref = find_blob_ref(result)
    return digest(result) if ref is None else ref.sha256


def _without_traceback(failure: Failure) -> Failure:
    # An error that is raised again on its way to the second call has gone through more frames.
    cause = None if failure.cause is None else _without_traceback(failure.cause)
    return replace(failure, traceback="", cause=cause)


class AsyncTokenHandle(_OneAttempt):
    """An attempt whose outcome comes by its token, for code on an event loop."""

    async def complete(self, result: Any = None) -> None:
        """See `TokenHandle.complete`."""
        await self._complete(result)

    async def fail(self, error: BaseException | Failure) -> None:
        """See `TokenHandle.fail`."""
        await self._fail(error)

    async def heartbeat(self, details: Any = None) -> None:
        """See `TokenHandle.heartbeat`."""
        await self._heartbeat(details)

    async def cancelled(self) -> None:
        """See `TokenHandle.cancelled`."""
        await self._cancelled()


class TokenHandle(_OneAttempt):
    """An attempt whose outcome comes by its token, for plain code."""

    def complete(self, result: Any = None) -> None:
        """End the step with `result`, as if its body had returned it.

        Raises:
            InvalidPayload: A result that has no JSON form, or beyond what a blob takes.
            StepClosed: Nobody waits for this attempt any more, or it has another outcome.
            StoreUnavailable: No answer; the same call again is safe (TH1).
        """
        run_in_place(self._complete(result))

    def fail(self, error: BaseException | Failure) -> None:
        """End the attempt as if its body had raised `error`; the step's retry policy decides.

        Raises as `complete` does.
        """
        run_in_place(self._fail(error))

    def heartbeat(self, details: Any = None) -> None:
        """Say that the work goes on, and leave `details` for the next attempt.

        Raises:
            StepCancelled: The workflow no longer wants the step: stop, and say `cancelled`.
            StepClosed: Nobody waits for this attempt any more.
            InvalidPayload, PayloadTooLarge: Of the details.
            StoreUnavailable: No answer.
        """
        run_in_place(self._heartbeat(details))

    def cancelled(self) -> None:
        """End the attempt as cancelled.  Raises as `complete` does."""
        run_in_place(self._cancelled())
