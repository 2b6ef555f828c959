"""Signals that the engine takes itself: names that begin with two underscores are its own.

``__reseed`` is the one there is.  Its payload is ``{"seed": …}``, a whole number or hex digits, and
``"name"`` where it is meant for one generator alone.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from orchestrator.core.flags import FLAGS, STREAMS
from orchestrator.core.limits import SEED_BITS_MAX
from orchestrator.core.values import Json

RESEED = "__reseed"
_PREFIX = "__"
_HEX = re.compile(f"(?:0x)?([0-9a-f]{{1,{SEED_BITS_MAX // 4}}})", re.IGNORECASE)
_SEED = (
    f'a "seed" is a whole number from 0 to 2**{SEED_BITS_MAX} - 1, '
    f"or a text of 1 to {SEED_BITS_MAX // 4} hex digits"
)


@dataclass(frozen=True, slots=True)
class Reseed:
    """A new seed, in hex, for the generator of that name; for all of them where it is None."""

    seed: str
    name: str | None = None


def is_reserved(name: str, flags: Collection[int] = FLAGS) -> bool:
    """Return whether signals of that name are the engine's, in a run that was born with `flags`."""
    return name.startswith(_PREFIX) and STREAMS in flags


def why_refused(name: str, payload: Json, flags: Collection[int] = FLAGS) -> str | None:
    """Return why the engine does not take the signal, "" where it does; None if it is not its own.

    `flags` are those of the run.
    """
    if name == RESEED and STREAMS not in flags:
        return "the run was begun by an orchestrator that knew no reseed; only later runs take it"
    if not is_reserved(name, flags):
        return None
    if name != RESEED:
        return f"names that begin with {_PREFIX} are the engine's own, and it has only {RESEED}"
    try:
        reseed_in(payload)
    except ValueError as error:
        return str(error)
    return ""


def reseed_in(payload: Json) -> Reseed:
    """Return what the payload of a reseed says.

    Raises:
        ValueError: It says nothing that can be done; the text says what is wanted.
    """
    if not isinstance(payload, dict):
        raise ValueError(f'the payload is an object with "seed", and "name" where wanted; {_SEED}')
    unknown = ", ".join(repr(key) for key in sorted(payload.keys() - {"seed", "name"}))
    if unknown:
        # A name that was misspelt must not reseed all of them.
        raise ValueError(f'a reseed has "seed" and "name"; found also {unknown[:200]}')
    name = payload.get("name")
    if name is not None and not (isinstance(name, str) and name):
        raise ValueError('"name" is the name of one generator; leave it out for all of them')
    return Reseed(_seed_in(payload.get("seed")), name)


def _seed_in(seed: object) -> str:
    if isinstance(seed, int) and not isinstance(seed, bool):
        if seed >= 0 and seed.bit_length() <= SEED_BITS_MAX:
            return f"{seed:x}"
    elif isinstance(seed, str) and (found := _HEX.fullmatch(seed)):
        return found[1].lower()
    raise ValueError(_SEED)
