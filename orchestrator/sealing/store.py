"""A store whose payloads are sealed on their way in and opened on their way out.

SS1  Whoever works with it sees payloads as they are; whoever reads Redis sees them sealed.
SS2  Everything that is not a payload passes through as it is: rights, numbers and instants are the
     store's own business, and its guarantees (H1-H9) hold as before.
SS3  An event is sealed before it is chained, by whoever chains it (`seal_event`): `read_history`
     returns it opened, with the bytes that were chained beside it.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestrator.core.values import Json, canonical, loads
from orchestrator.sealing import parts
from orchestrator.sealing.codec import TRANSIT, FingerprintingCodec, PayloadCodec, PayloadSealed
from orchestrator.store.ports import (
    Answer,
    AttemptKey,
    Claim,
    ClaimAnswer,
    Commit,
    CommitResult,
    InboxEntry,
    Kind,
    Letter,
    PostAnswer,
    Posted,
    RunKey,
    Start,
    StoredEvent,
)

logger = logging.getLogger("orchestrator.sealing")


class SealedStore:
    """See `OwnerStore`, `WorkerStore` and `ClientStore`; calls without payloads go to `store`."""

    def __init__(self, store: Any, codec: PayloadCodec) -> None:
        self._store = store
        self._codec = codec

    def __getattr__(self, name: str) -> Any:
        """Return what the store itself has (SS2)."""
        return getattr(self._store, name)

    # --- owners ----------------------------------------------------------------------------------

    def take_inbox(
        self, after: Mapping[int, str], *, count: int, block_ms: int
    ) -> dict[int, list[InboxEntry]]:
        """See `OwnerStore.take_inbox`."""
        taken = self._store.take_inbox(after, count=count, block_ms=block_ms)
        return {partition: self._opened_each(entries) for partition, entries in taken.items()}

    def commit(self, commits: Sequence[tuple[str, Commit]]) -> list[CommitResult | None]:
        """See `OwnerStore.commit`."""
        sealed = [(token, self._sealed_commit(commit)) for token, commit in commits]
        results: list[CommitResult | None] = self._store.commit(sealed)
        return results

    def answer(self, answers: Sequence[Answer]) -> None:
        """See `OwnerStore.answer`."""
        self._store.answer([replace(each, body=self._sealed(each.body)) for each in answers])

    def read_letters(self, partition: int, *, count: int) -> list[tuple[str, Letter]]:
        """See `OwnerStore.read_letters`."""
        opened = []
        for entry_id, letter in self._store.read_letters(partition, count=count):
            try:
                opened.append((entry_id, replace(letter, body=self._opened(letter.body))))
            except PayloadSealed as error:
                self._stays(letter.kind, entry_id, letter.workflow_id, error)
        return opened

    def read_history(
        self, key: RunKey, *, after_seq: int = 0, count: int | None = None
    ) -> list[StoredEvent]:
        """See `OwnerStore.read_history`; what no key opens is blank (SS3)."""
        return [
            self._opened_event(event)
            for event in self._store.read_history(key, after_seq=after_seq, count=count)
        ]

    def find_row(self, workflow_id: str) -> dict[str, str] | None:
        """See `OwnerStore.find_row`; parts that no key opens are left out."""
        row = self._store.find_row(workflow_id)
        return None if row is None else self._opened_row(row)

    def read_step(self, key: RunKey, step: int) -> dict[str, str]:
        """See `OwnerStore.read_step`; details that no key opens are left out."""
        row: dict[str, str] = dict(self._store.read_step(key, step))
        details = loads(row.pop("details", "null"))
        if isinstance(details, dict) and parts.is_sealed(details):
            try:
                details = self._opened(details)["details"]
            except PayloadSealed:
                details = None
        return row if details is None else {**row, "details": canonical(details).decode()}

    # --- workers ---------------------------------------------------------------------------------

    def claim(self, key: AttemptKey, token: str, *, ttl_ms: int) -> Claim:
        """See `WorkerStore.claim`."""
        claim: Claim = self._store.claim(key, token, ttl_ms=ttl_ms)
        details = claim.details
        if isinstance(details, dict) and parts.is_sealed(details):
            try:
                claim = replace(claim, details=self._opened(details)["details"])
            except PayloadSealed as error:
                logger.error("%s: begins without its last details: %s", key, error)  # noqa: TRY400
                claim = replace(claim, details=None)
        return claim

    def post_outcome(self, key: AttemptKey, token: str, body: Mapping[str, Json]) -> PostAnswer:
        """See `WorkerStore.post_outcome`."""
        sealed = self._sealed(body)
        if "digest" in sealed:  # As it is, it would tell apart a "yes" from a "no".
            codec, digest = self._codec, str(sealed.pop("digest"))
            if isinstance(codec, FingerprintingCodec):
                sealed["digest"] = codec.fingerprint(digest.encode())
        answer: PostAnswer = self._store.post_outcome(key, token, sealed)
        return answer

    def heartbeat(self, key: AttemptKey, token: str, details: Json) -> ClaimAnswer:
        """See `WorkerStore.heartbeat`."""
        sealed = None if details is None else self._sealed({"details": details})
        answer: ClaimAnswer = self._store.heartbeat(key, token, sealed)
        return answer

    # --- clients ---------------------------------------------------------------------------------

    def start(
        self,
        workflow_id: str,
        *,
        request_id: str,
        body: Mapping[str, Json],
        message: tuple[Kind, Mapping[str, Json]] | None = None,
    ) -> Start:
        """See `ClientStore.start`."""
        sealed = None if message is None else (message[0], self._sealed(message[1]))
        started: Start = self._store.start(
            workflow_id, request_id=request_id, body=self._sealed(body), message=sealed
        )
        return started

    def post(
        self, workflow_id: str, kind: Kind, body: Mapping[str, Json], *, run: int = 0
    ) -> Posted:
        """See `ClientStore.post`."""
        posted: Posted = self._store.post(workflow_id, kind, self._sealed(body), run=run)
        return posted

    def wait_for_answer(
        self, workflow_id: str, reply_to: str, *, wait_ms: int
    ) -> dict[str, Json] | None:
        """See `ClientStore.wait_for_answer`."""
        answer = self._store.wait_for_answer(workflow_id, reply_to, wait_ms=wait_ms)
        return None if answer is None else self._opened(answer)

    def read_rows(self, runs: Sequence[tuple[str, int]]) -> list[dict[str, str] | None]:
        """See `RunIndex.read_rows`; parts that no key opens are left out."""
        rows = self._store.read_rows(runs)
        return [None if row is None else self._opened_row(row) for row in rows]

    def reindex_run(self, workflow_id: str, run: int, row: Mapping[str, str]) -> bool:
        """See `RunIndex.reindex_run`."""
        sealed = self._sealed_fields(row, f"{workflow_id}.{run}")
        done: bool = self._store.reindex_run(workflow_id, run, sealed)
        return done

    # --- inside ----------------------------------------------------------------------------------

    def _sealed(self, body: Mapping[str, Json]) -> dict[str, Json]:
        return parts.seal_body(body, self._codec, TRANSIT)

    def _opened(self, body: Mapping[str, Json]) -> dict[str, Json]:
        return parts.unseal(body, self._codec)

    def _opened_each(self, entries: Sequence[InboxEntry]) -> list[InboxEntry]:
        """Return entries opened; one that cannot be stays where it is, and is read again later."""
        opened = []
        for entry in entries:
            try:
                opened.append(replace(entry, body=self._opened(entry.body)))
            except PayloadSealed as error:
                self._stays(entry.kind, entry.id, entry.workflow_id, error)
        return opened

    def _stays(self, kind: Kind, entry_id: str, workflow_id: str, error: PayloadSealed) -> None:
        # Not rejected: an orchestrator that lacks a key must not throw away what was accepted.
        logger.error("%s %s for %s stays where it is: %s", kind.value, entry_id, workflow_id, error)

    def _opened_event(self, event: StoredEvent) -> StoredEvent:
        opened, is_blank = parts.unseal_event(event.data, self._codec)
        if opened is event.data:
            return event
        return replace(event, data=opened, chained=event.data, is_blank=is_blank)

    def _opened_row(self, row: Mapping[str, str]) -> dict[str, str]:
        opened = dict(row)
        for name in parts.ROW_PARTS:
            if name in row:
                try:
                    opened[name] = parts.unseal_text(row[name], self._codec)
                except PayloadSealed:
                    del opened[name]
        if row.get("start"):
            start = loads(row["start"])
            assert isinstance(start, dict), "a start is an object"
            opened["start"] = canonical(self._opened(start)).decode()
        return opened

    def _sealed_fields(self, fields: Mapping[str, str], scope: str) -> dict[str, str]:
        return {
            name: parts.seal_text(text, self._codec, scope) if name in parts.ROW_PARTS else text
            for name, text in fields.items()
        }

    def _sealed_commit(self, commit: Commit) -> Commit:
        fields = self._sealed_fields(commit.fields, str(commit.key))
        if fields.get("start"):
            start = loads(fields["start"])
            assert isinstance(start, dict), "a start is an object"
            fields["start"] = canonical(self._sealed(start)).decode()
        letters = [
            replace(letter, body=self._sealed(letter.body)) if letter.body else letter
            for letter in commit.letters
        ]
        next_run = commit.next_run
        if next_run is not None:
            next_run = replace(next_run, body=self._sealed(next_run.body))
        return replace(commit, fields=fields, letters=letters, next_run=next_run)
