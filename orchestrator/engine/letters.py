"""Letters: what one run has to say to another, delivered wherever that one's partition is.

LE1  A letter lies in its writer's partition from the commit that wrote it until it is delivered.
LE2  One that is delivered twice, after a crash in between, changes nothing the second time: a start
     knows its request, a child's beginning is recorded already, its end is no longer waited for, a
     stop names the child it is for, and a signal has the id that its sender's run and number give;
     a permit is asked for, and given back, under the run's number of it.
"""

import logging
from collections.abc import Mapping
from typing import Protocol

from orchestrator.core.failure import Failure
from orchestrator.core.values import Json
from orchestrator.engine.children import STARTED
from orchestrator.engine.externals import answer_undelivered
from orchestrator.engine.permits import TO_KEYS, deliver_to_key
from orchestrator.store.permit_ports import PermitStore
from orchestrator.store.ports import (
    ClientStore,
    Kind,
    Letter,
    OwnerStore,
    PostedAnswer,
    StartAnswer,
)

logger = logging.getLogger("orchestrator.engine")

_BATCH_MAX = 200
_REFUSALS = (StartAnswer.EXISTS, StartAnswer.BARRED)


class LetterStore(OwnerStore, ClientStore, PermitStore, Protocol):
    """The store as the delivery needs it."""


def deliver(store: LetterStore, partition: int) -> bool:
    """Deliver the oldest letters of a partition; return whether there may be more.

    Raises:
        StoreUnavailable: No answer; what was not removed is delivered again (LE2).
    """
    entries = store.read_letters(partition, count=_BATCH_MAX)
    for _, letter in entries:
        if letter.kind is Kind.START:
            _start(store, letter)
        elif letter.kind in TO_KEYS:
            deliver_to_key(store, letter)
        else:
            _post(store, letter)
    store.ack_letters(partition, [entry_id for entry_id, _ in entries])
    return len(entries) == _BATCH_MAX


def _post(store: LetterStore, letter: Letter) -> None:
    posted = store.post(letter.workflow_id, letter.kind, letter.body, run=letter.run)
    if posted.answer is PostedAnswer.POSTED:
        return
    about = f"{letter.kind.value} for {letter.workflow_id}"
    logger.info("%s: the run is %s", about, posted.answer.value)
    answer = answer_undelivered(store, letter, posted)
    if answer is not None:
        store.post(answer.workflow_id, answer.kind, answer.body, run=answer.run)


def _start(store: LetterStore, letter: Letter) -> None:
    started = store.start(letter.workflow_id, request_id=letter.request, body=letter.body)
    parent = letter.body.get("parent")
    if not isinstance(parent, dict):
        return
    if started.answer not in _REFUSALS:
        if letter.body.get("announced"):
            _tell(store, parent, {"run": started.run, "status": STARTED})
        return
    message = f"{letter.workflow_id} is {started.status} as run {started.run}, by another request"
    failure = Failure(type="WorkflowAlreadyStarted", message=message)
    _tell(store, parent, {"run": 0, "status": "refused", "failure": failure.as_json()})


def _tell(store: LetterStore, parent: Mapping[str, Json], what: Mapping[str, Json]) -> None:
    told = {**what, "child": parent["child"], "for_run": parent["run"]}
    store.post(str(parent["workflow"]), Kind.CHILD, told, run=int(str(parent["run"])))
