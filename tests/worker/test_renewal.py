"""Promise: the main process renews for children that hold a claim, and stops bodies once."""

import logging
import os
import signal
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from celery.worker import state as worker_state

from orchestrator.core.errors import StoreUnavailable
from orchestrator.store.ports import AttemptKey, ClaimAnswer
from orchestrator.worker.board import Board, Slot, digest_of
from orchestrator.worker.renewal import ChildClaims

KEY = AttemptKey(workflow_id="order", run=1, step=2, attempt=3)
HEADER = {"workflow": "order", "run": 1, "step": 2, "attempt": 3}


class Request:
    """A request that a child (this process) has accepted."""

    def __init__(self) -> None:
        self.id = str(KEY)
        self.request_dict: dict[str, Any] = {"orc": HEADER}
        self.worker_pid = os.getpid()


class Parent:
    """The main process, one child, and a store that says what the test wants."""

    def __init__(self) -> None:
        self.board = Board()
        slot = Slot.find(0)
        assert slot is not None
        self.slot = slot
        self.claims = ChildClaims(lambda: self, self.board, "worker/")  # type: ignore[arg-type,return-value]
        self.answer: ClaimAnswer | None = ClaimAnswer.GRANTED
        self.asked: list[Mapping[AttemptKey, str]] = []
        self.signals: list[bytes | None] = []

    def renew(self, claims: Mapping[AttemptKey, str], *, ttl_ms: int) -> Any:
        assert ttl_ms > 0
        self.asked.append(dict(claims))
        if self.answer is None:
            raise StoreUnavailable("renew", "refused")
        return dict.fromkeys(claims, self.answer)


@pytest.fixture
def parent() -> Iterator[Parent]:
    made = Parent()
    request = Request()
    worker_state.active_requests.add(request)
    previous = signal.signal(signal.SIGUSR1, lambda *_: made.signals.append(made.slot.take_order()))
    yield made
    signal.signal(signal.SIGUSR1, previous)
    worker_state.active_requests.discard(request)
    made.board.close()


def test_claim_that_a_child_holds_is_renewed_by_the_workers_name(parent: Parent) -> None:
    parent.slot.enter(digest_of(str(KEY)))
    parent.claims.renew()
    assert parent.asked == [{KEY: "worker/"}]
    assert parent.signals == []


def test_accepted_message_is_neither_renewed_nor_stopped_before_its_claim(parent: Parent) -> None:
    parent.answer = ClaimAnswer.REFUSED
    parent.claims.renew()
    parent.slot.enter(digest_of("order.1.1.1"))
    parent.claims.renew()
    assert parent.asked in ([], [{}])
    parent.slot.enter(digest_of(str(KEY)))
    parent.claims.renew()
    assert parent.signals == [digest_of(str(KEY))]


@pytest.mark.parametrize("answer", [ClaimAnswer.REFUSED, ClaimAnswer.CANCELLED])
def test_body_that_is_no_longer_wanted_is_stopped_once(parent: Parent, answer: ClaimAnswer) -> None:
    parent.answer = answer
    parent.slot.enter(digest_of(str(KEY)))
    parent.claims.renew()
    parent.claims.renew()
    assert parent.signals == [digest_of(str(KEY))]


def test_outage_of_the_store_stops_nothing_and_is_told_once(
    parent: Parent, caplog: pytest.LogCaptureFixture
) -> None:
    parent.slot.enter(digest_of(str(KEY)))
    parent.answer = None
    with caplog.at_level(logging.INFO):
        parent.claims.renew()
        parent.claims.renew()
        parent.answer = ClaimAnswer.GRANTED
        parent.claims.renew()
    assert parent.signals == []
    assert caplog.text.count("could not be renewed") == 1
    assert caplog.text.count("renewed again") == 1


def test_renewal_by_the_main_process_never_raises(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Any:
        raise RuntimeError("no store")

    board = Board()
    monkeypatch.setattr(board, "running", lambda: {1: (0, b"")})
    with caplog.at_level(logging.ERROR):
        ChildClaims(broken, board, "worker/").renew()
    assert "claims could not be renewed" in caplog.text
    board.close()
