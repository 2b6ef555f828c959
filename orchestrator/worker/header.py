"""The header that makes a Celery message a step.

Its arguments travel in it as one opaque string of strict JSON: kombu's own JSON is a tagged dialect
that refuses user data with a ``__type__`` key and turns dates into objects of its choice.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii

from orchestrator.core.values import Json
from orchestrator.engine.ports import Outgoing
from orchestrator.store.ports import AttemptKey

#: Name of the header.
HEADER = "orc"

_encode_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


@dataclass(frozen=True, slots=True, kw_only=True)
class StepHeader:
    """What a message says of its step.

    `args` and `kwargs` are JSON as in `engine.ports.Outgoing`, a blob's reference included.
    """

    key: AttemptKey
    idempotency_key: str
    compensates: str
    workflow: str
    args: Json
    kwargs: Json
    headers: Mapping[str, Json]


def encode_arguments(outgoing: Outgoing) -> tuple[str, str]:
    """Return positional and keyword arguments as JSON texts.

    Raises:
        ValueError: NaN or infinity among them.
    """
    return _encode_json(outgoing.args), _encode_json(outgoing.kwargs)


def write_header(
    outgoing: Outgoing, arguments: tuple[str, str], seal: Callable[[str], str] = str
) -> str:
    """Return the header's value for `outgoing`, whose arguments are given encoded, as JSON.

    `seal` is what becomes of the texts of arguments and headers on their way.
    """
    key = outgoing.key
    text = encode_basestring_ascii
    headers = outgoing.headers
    more = f',"headers":{text(seal(_encode_json(headers)))}' if headers else ""
    # Put together by hand: this is once per step, in the owner's thread.
    return (
        f'{{"workflow":{text(key.workflow_id)},"run":{key.run},"step":{key.step},'
        f'"attempt":{key.attempt},"key":{text(outgoing.idempotency_key)},'
        f'"compensates":{text(outgoing.compensates)},"type":{text(outgoing.workflow)},'
        f'"args":{text(seal(f"[{arguments[0]},{arguments[1]}]"))}{more}}}'
    )


def find_key(headers: object) -> AttemptKey | None:
    """Return the attempt that `headers` are about, or None where they are not of a step of ours."""
    value = headers.get(HEADER) if isinstance(headers, Mapping) else None
    if not isinstance(value, Mapping):
        return None
    workflow_id, run, step, attempt = (
        value.get(name) for name in ("workflow", "run", "step", "attempt")
    )
    if not isinstance(workflow_id, str):
        return None
    if not (isinstance(run, int) and isinstance(step, int) and isinstance(attempt, int)):
        return None
    return AttemptKey(workflow_id=workflow_id, run=run, step=step, attempt=attempt)


def read_header(
    value: Mapping[str, Json], key: AttemptKey, unseal: Callable[[str], str] = str
) -> StepHeader:
    """Return the header whose key `find_key` has found; `unseal` undoes `write_header`'s `seal`.

    Raises:
        ValueError: Parts that do not fit: another version wrote it, or not we at all.
    """
    text = value.get("args")
    if not isinstance(text, str):
        raise ValueError("the header has no arguments")
    parts = json.loads(unseal(text))
    if not isinstance(parts, list) or len(parts) != 2:
        raise ValueError("the header's arguments are not a pair")
    return StepHeader(
        key=key,
        idempotency_key=str(value.get("key") or ""),
        compensates=str(value.get("compensates") or ""),
        workflow=str(value.get("type") or ""),
        args=parts[0],
        kwargs=parts[1],
        headers=read_headers(value, unseal),
    )


def read_headers(value: Mapping[str, Json], unseal: Callable[[str], str] = str) -> dict[str, Json]:
    """Return the headers that travel with a step; {} for a message that has none.

    Raises:
        ValueError: They are not what `write_header` writes.
    """
    text = value.get("headers")
    if text is None:
        return {}
    headers = json.loads(unseal(text)) if isinstance(text, str) else None
    if not isinstance(headers, dict):
        raise ValueError("the header's headers are no object")
    return headers
