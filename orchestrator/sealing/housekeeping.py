"""What is done to keys while runs go on: shredding one run's, wrapping all anew.

HK1  Shredding begins with the blobs, which are found through the key, and ends with the key: one
     that dies in between is done again from its beginning.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from orchestrator.core.blobs import BlobRef, find_blob_ref
from orchestrator.core.errors import RunNotFound, UsageError
from orchestrator.core.states import CLOSED_STATUSES
from orchestrator.core.values import Json, loads
from orchestrator.engine.ports import ErasableBlobs
from orchestrator.sealing.codec import KeyedCodec
from orchestrator.store.ports import KeyStore, OwnerStore, RunKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Shredded:
    """What shredding did: `was_readable` is False where it had been done before."""

    key: RunKey
    was_readable: bool
    blobs: int


class Store(OwnerStore, KeyStore, Protocol):
    """The store as this needs it."""


def shred(
    store: Store, blobs: ErasableBlobs, codec: KeyedCodec, workflow_id: str, run: int
) -> Shredded:
    """Make the payloads of an ended run unreadable for good; `run` 0 is the latest one.

    Its history stays, with numbers, kinds and instants, and verifies as before.

    Raises:
        RunNotFound: No such run.
        UsageError: It is open: it could not go on.
        StoreUnavailable: No answer, or a blob could not be deleted; do it again.
    """
    row = store.find_row(workflow_id)
    if row is None:
        raise RunNotFound(workflow_id)
    latest = int(row["run"])
    key = RunKey(workflow_id=workflow_id, run=run or latest)
    if key.run > latest:
        raise RunNotFound(f"{workflow_id} run {key.run}")
    if key.run == latest and row["status"] not in CLOSED_STATUSES:
        raise UsageError(
            f"{workflow_id} run {key.run} is {row['status']}: without its payloads it could not go "
            f"on; cancel or terminate it, and shred it when it has ended"
        )
    refs = {ref for event in store.read_history(key) for ref in _refs_in(loads(event.data))}
    for ref in refs:
        blobs.delete(ref)
    was_readable = codec.shred(str(key), at_ms=store.now_ms())
    return Shredded(key=key, was_readable=was_readable, blobs=len(refs))


def rotate_keys(store: Store, codec: KeyedCodec) -> tuple[int, int]:
    """Wrap every data key under the current master key; return how many, and how many there are.

    May be broken off and done again, and runs go on meanwhile.

    Raises:
        PayloadSealed: A master key that wrapped one is not here.
        StoreUnavailable: No answer; do it again.
    """
    scopes = [scope for number in range(store.partitions) for scope in store.list_keys(number)]
    return sum(codec.rotate(scope) for scope in scopes), len(scopes)


def _refs_in(value: Json) -> Iterator[BlobRef]:
    ref = find_blob_ref(value)
    if ref is not None:
        yield ref
        return
    children = value.values() if isinstance(value, dict) else value
    if isinstance(value, dict | list):
        for child in children:  # type: ignore[union-attr]
            yield from _refs_in(child)
