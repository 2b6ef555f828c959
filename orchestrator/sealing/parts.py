"""Which parts of what is stored are payloads, and how they are replaced by one sealed part.

SP1  Of an event everything is sealed that is not named `CLEAR`: an event of a later version, or a
     field that is added, is sealed until somebody decides otherwise.
SP2  Of a message's body likewise everything that is not named `CLEAR_IN_BODIES`.
SP3  What is sealed together is one ciphertext that names its scope; opened, it is what it was.
"""

import base64
from collections.abc import Callable, Mapping

from orchestrator.core.values import Json, canonical, loads
from orchestrator.sealing.codec import PayloadCodec, PayloadSealed

_MARK = "$sealed"

#: Of events: what they are about, and never what an application put into them.
CLEAR = frozenset(
    {
        *("type", "at_ms", "step", "attempt", "child", "timer", "saga", "steps", "run", "kind"),
        *("workflow", "version", "flags", "engine", "python", "fingerprint", "request_id"),
        *("parent", "first_run", "continued_from", "seen", "watcher", "watchers", "external"),
        *("task", "undo", "compensates", "options", "id", "parent_close_policy"),
        *("duration_ms", "due_at_ms", "retry_at_ms", "resend", "may_have_run", "decision"),
        *("signal", "signal_id", "update", "update_id", "name", "scheme", "probe", "seed"),
        *("words", "digest"),
        *("patch", "activation", "deprecated", "is_late", "is_pinned", "side_effect"),
        "announced",
        "has_last_result",
        *("run_timeout_ms", "execution_deadline_at_ms", "said", "is_withdrawn", "retry"),
        *("event", "stood_still_ms"),
        *("permit", "key", "limit", "per_ms", "fence", "go_at_ms"),
        # What runs are searched by, which has to be readable.
        *("search_attributes", "attributes"),
    }
)
#: Of bodies of inbox entries, letters and outcomes, beside those.
CLEAR_IN_BODIES = CLEAR | {"query", "reply_to", "deadline_ms", "status", "asker", "for_run"}
#: Of a run's row, each a JSON text.
ROW_PARTS = ("state", "result", "failure", "memo", "summary", "details", "current_details")

#: What stands for a part that nobody can open any more; None for those not named.
_BLANKS: dict[str, Json] = {
    "args_digest": "",
    "message": "",
    "traceback": "",
    "reason": "",
    "where": "",
    "by": "",
    "summary": "",
    "details": "",
    "memo": {},
    "headers": {},
    "last_failure": {},
    "args": [],
    "kwargs": {},
    "failure": {"type": "PayloadSealed", "message": "(sealed: the key is not to be had)"},
}


def seal(
    data: Mapping[str, Json], is_payload: Callable[[str], bool], codec: PayloadCodec, scope: str
) -> dict[str, Json]:
    """Return `data` with its payloads sealed in one part; as it is where it has none."""
    payloads = {name: value for name, value in data.items() if is_payload(name)}
    if not payloads:
        return dict(data)
    sealed = codec.encode(canonical(payloads), scope=scope)
    envelope: dict[str, Json] = {
        "scope": scope,
        "parts": [*sorted(payloads)],
        "data": base64.b64encode(sealed).decode(),
    }
    kept = {name: value for name, value in data.items() if name not in payloads}
    return {**kept, _MARK: envelope}


def is_sealed(data: Mapping[str, Json]) -> bool:
    """Return whether `data` has a part that `seal` made."""
    return _MARK in data


def unseal(data: Mapping[str, Json], codec: PayloadCodec) -> dict[str, Json]:
    """Return what `seal` was given; `data` itself where nothing is sealed.

    Raises:
        PayloadSealed: See `PayloadCodec.decode`; also for an envelope that is none.
    """
    envelope = data.get(_MARK)
    if envelope is None:
        return dict(data)
    try:
        assert isinstance(envelope, dict)
        scope, sealed = str(envelope["scope"]), base64.b64decode(str(envelope["data"]))
    except (AssertionError, KeyError, ValueError) as error:
        raise PayloadSealed("an envelope", "it has no scope and data") from error
    opened = loads(codec.decode(sealed, scope=scope))
    assert isinstance(opened, dict), "what was sealed is an object"
    kept = {name: value for name, value in data.items() if name != _MARK}
    return {**kept, **opened}


def blank(data: Mapping[str, Json]) -> dict[str, Json]:
    """Return sealed `data` with nothing in the place of its payloads, for those without a key."""
    envelope = data.get(_MARK)
    names = envelope.get("parts") if isinstance(envelope, dict) else []
    kept = {name: value for name, value in data.items() if name != _MARK}
    blanks = {str(name): _BLANKS.get(str(name)) for name in names or []}  # type: ignore[union-attr]
    return {**kept, **blanks}


def seal_event(data: bytes, codec: PayloadCodec, scope: str) -> bytes:
    """Return the bytes of an event with its payloads sealed (SP1)."""
    return canonical(seal(_object(data), lambda name: name not in CLEAR, codec, scope))


def unseal_event(data: bytes, codec: PayloadCodec) -> tuple[bytes, bool]:
    """Return the bytes of an event as it was recorded, and whether a key was missing for that.

    Without its key an event is blank.
    """
    event = _object(data)
    if not is_sealed(event):
        return data, False
    try:
        return canonical(unseal(event, codec)), False
    except PayloadSealed:
        return canonical(blank(event)), True


def seal_body(body: Mapping[str, Json], codec: PayloadCodec, scope: str) -> dict[str, Json]:
    """Return a message's body with its payloads sealed (SP2)."""
    return seal(body, lambda name: name not in CLEAR_IN_BODIES, codec, scope)


def seal_text(text: str, codec: PayloadCodec, scope: str) -> str:
    """Return a JSON text under seal, as another one."""
    return canonical(seal({"value": loads(text)}, {"value"}.__contains__, codec, scope)).decode()


def unseal_text(text: str, codec: PayloadCodec) -> str:
    """Return what `seal_text` was given; a text that is not sealed as it is.

    Raises:
        PayloadSealed: See `PayloadCodec.decode`.
    """
    if _MARK not in text:
        return text
    data = loads(text)
    if not isinstance(data, dict) or data.keys() != {_MARK}:
        return text  # The application's own text.
    return canonical(unseal(data, codec)["value"]).decode()


def _object(data: bytes) -> dict[str, Json]:
    value = loads(data)
    assert isinstance(value, dict), "an event is an object"
    return value
