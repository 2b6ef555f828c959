"""The token of a claimed attempt, as text that people and programs carry about.

It names the attempt and its claim, and so is the right to end it: nobody can make one up, since the
claim's own token is drawn at random by the worker that took it.
"""

import base64
import binascii

from orchestrator.core.values import canonical, loads
from orchestrator.store.ports import AttemptKey

_BEGINS = "step1."


def encode_token(key: AttemptKey, claim: str) -> str:
    """Return the token of the attempt `key` under the claim `claim`."""
    data = canonical([key.workflow_id, key.run, key.step, key.attempt, claim])
    return _BEGINS + base64.urlsafe_b64encode(data).decode().rstrip("=")


def decode_token(token: str) -> tuple[AttemptKey, str]:
    """Return the attempt and the claim that a token names.

    Raises:
        ValueError: No such text.
    """
    if not token.startswith(_BEGINS):
        raise ValueError(f"a step's token begins with {_BEGINS!r}")
    text = token.removeprefix(_BEGINS)
    try:
        data = loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error) as error:
        raise ValueError("it was cut off, or changed on its way") from error
    match data:
        case [str(workflow_id), int(run), int(step), int(attempt), str(claim)] if claim:
            return (
                AttemptKey(workflow_id=workflow_id, run=run, step=step, attempt=attempt),
                claim,
            )
    raise ValueError("it names no attempt")
