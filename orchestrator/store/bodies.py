"""Bodies of the inbox entries that the store itself writes about steps.

One place for both stores, so that an owner cannot tell them apart.
"""

from collections.abc import Mapping

from orchestrator.core.values import Json, canonical
from orchestrator.store.ports import AttemptKey

#: Why a step that nobody had claimed ended when it was cancelled.
CANCELLED_UNCLAIMED: dict[str, Json] = {
    "type": "StepCancelled",
    "message": "cancelled before a worker had it",
}


def outcome_body(key: AttemptKey, body: Mapping[str, Json]) -> bytes:
    """Return the body of an OUTCOME entry: the worker's, with step and attempt."""
    told = {name: value for name, value in body.items() if name != "digest"}
    return canonical({**told, "step": key.step, "attempt": key.attempt})


def digest_in(body: Mapping[str, Json]) -> str:
    """Return the digest that an outcome came with; see `WorkerStore.post_outcome`."""
    return str(body.get("digest") or "")


def late_body(key: AttemptKey, body: Mapping[str, Json]) -> bytes:
    """Return the body of a LATE_OUTCOME entry: step, attempt and kind, no more."""
    return canonical({"step": key.step, "attempt": key.attempt, "kind": body["kind"]})


def cancelled_body(key: AttemptKey) -> bytes:
    """Return the OUTCOME of an attempt that was cancelled before anybody claimed it."""
    failure: Json = dict(CANCELLED_UNCLAIMED)
    return outcome_body(key, {"kind": "cancelled", "failure": failure, "ran": False})
