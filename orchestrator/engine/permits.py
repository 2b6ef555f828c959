"""Permits between a run and the key they are of: requests out, grants in, and giving back.

EP1  Requests and releases are letters: they lie in the run's partition from the commit that decided
     them until they are delivered.  What is outstanding at the run's end is given back in the
     commit that ends it.
EP2  A delivery tells every holder that was granted a permit and not told; it is told again rather
     than never, and a run that was told already has its event.
EP3  A grant that nobody wants goes back.  It comes from a request that was delivered again behind
     its release, by an owner that was slow.  The run itself gives it back in a commit, under its
     lease: an owner whose view is old could else release what is held.  A run that has ended wants
     nothing, whoever looks.
"""

import logging
from collections.abc import Mapping
from typing import Protocol

from orchestrator.core import events as e
from orchestrator.core.values import Json
from orchestrator.engine.turn import Turn
from orchestrator.store.permit_ports import Grant, Holder, PermitStore
from orchestrator.store.ports import ClientStore, InboxEntry, Kind, Letter, PostedAnswer

logger = logging.getLogger("orchestrator.engine")

#: Letters that go to a key, not to a run.
TO_KEYS = frozenset({Kind.PERMIT_REQUEST, Kind.PERMIT_RELEASE})


class Store(PermitStore, ClientStore, Protocol):
    """The store as the delivery needs it."""


class RunPermits:
    """A run's permits, as its owner sees them."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def send(self, command: e.Command) -> None:
        """Write the letter that `command` means, if it means one; before it is appended."""
        if isinstance(command, e.PermitRequested):
            body: dict[str, Json] = {"key": command.key, "kind": command.kind}
            body |= {"permit": command.permit, "limit": command.limit}
            if command.per_ms:
                body["per_ms"] = command.per_ms
            self._write(Kind.PERMIT_REQUEST, body)
        elif isinstance(command, e.PermitReleased):
            entry = self._turn.ledger.permits.get(command.permit)
            if entry is not None:
                self._give_back(command.permit, entry.requested.key)

    def leave(self) -> None:
        """Give back all that the run has, or waits for; before its ending is appended (EP1)."""
        for number, entry in self._turn.ledger.permits.items():
            if entry.requested.kind == "permit":
                self._give_back(number, entry.requested.key)

    def take_grant(self, body: Mapping[str, Json]) -> None:
        """A permit is this run's, or a slot: permit, key, kind, fence, go_at_ms."""
        number = body.get("permit")
        assert isinstance(number, int)
        entry = self._turn.ledger.permits.get(number)
        if entry is None:
            if body.get("kind") == "permit":
                self._give_back(number, str(body.get("key")))  # EP3
        elif not entry.is_granted:
            self._turn.inputs.append(
                e.PermitGranted(
                    at_ms=self._turn.at_ms,
                    permit=number,
                    fence=int(str(body.get("fence") or 0)),
                    go_at_ms=int(str(body.get("go_at_ms") or 0)),
                )
            )

    def _give_back(self, number: int, key: str) -> None:
        self._write(Kind.PERMIT_RELEASE, {"key": key, "permit": number})

    def _write(self, kind: Kind, body: dict[str, Json]) -> None:
        run = self._turn.key
        self._turn.draft.letters.append(
            Letter(kind=kind, workflow_id=run.workflow_id, run=run.run, body=body)
        )


def unwanted(entry: InboxEntry) -> Letter | None:
    """Return the release of a permit that came for a run that has ended (EP3), or None."""
    if entry.kind is not Kind.PERMIT or entry.body.get("kind") != "permit":
        return None
    body = {"key": entry.body.get("key"), "permit": entry.body.get("permit")}
    run = int(str(entry.body.get("run")))
    return Letter(kind=Kind.PERMIT_RELEASE, workflow_id=entry.workflow_id, run=run, body=body)


def deliver_to_key(store: Store, letter: Letter) -> None:
    """Change the permits of a key as `letter` says, and tell who was granted one (EP2).

    Raises:
        StoreUnavailable: No answer; deliver it again.
    """
    key, number = str(letter.body["key"]), int(str(letter.body["permit"]))
    holder = Holder(workflow_id=letter.workflow_id, run=letter.run, permit=number)
    if letter.kind is Kind.PERMIT_RELEASE:
        _tell(store, key, store.release_permit(key, holder))
        return
    limit = int(str(letter.body["limit"]))
    if letter.body["kind"] == "permit":
        _tell(store, key, store.request_permit(key, holder, limit=limit))
        return
    per_ms = int(str(letter.body["per_ms"]))
    go_at_ms = store.take_slot(key, holder, limit=limit, per_ms=per_ms)
    told: dict[str, Json] = {"kind": "rate", "go_at_ms": go_at_ms}
    store.post(holder.workflow_id, Kind.PERMIT, _body(key, holder, told), run=holder.run)


def _tell(store: Store, key: str, grants: list[Grant]) -> None:
    """Tell holders of their permits; one whose run has ended passes his on."""
    while grants:
        grant = grants.pop(0)
        holder = grant.holder
        body = _body(key, holder, {"kind": "permit", "fence": grant.fence})
        posted = store.post(holder.workflow_id, Kind.PERMIT, body, run=holder.run)
        if posted.answer is PostedAnswer.POSTED:
            store.note_told(key, grant)
        else:
            logger.info("%s: %s is %s, its permit goes on", key, holder, posted.answer.value)
            grants = store.release_permit(key, holder)


def _body(key: str, holder: Holder, told: dict[str, Json]) -> dict[str, Json]:
    return {"permit": holder.permit, "run": holder.run, "key": key, **told}
