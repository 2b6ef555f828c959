"""Chance as a function of what it is for: streams keyed by seed, purpose, epoch and step.

RN1  A keyed stream is a pure function of its key.  Nothing is saved, nothing restored, and a draw
     forgotten or added in one place cannot shift another.
RN2  Two keys share no stream by construction: every part of a key has a fixed width.  (numpy pads
     a short seed with zeros, so that ``SeedSequence([7])`` is ``SeedSequence([7, 0])``; what tells
     streams apart therefore stands in the spawn key.  ``SeedSequence.spawn`` counts its calls and
     is never used.)
RN3  numpy promises equal streams for one build on one kind of machine only (NEP 19).  `probe` is
     recorded with every checkpoint, so that a library that draws other numbers is found out.
RN4  The generators of the process are one thread's at a time: trainings side by side that draw from
     them take turns, step by step, and each begins where its own key says.

For code that insists on carrying one generator along there are `state_of` and `restore`.
"""

import hashlib
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from orchestrator.core.values import Json
from orchestrator.training.errors import BadHyperparameter, BadRecord

#: Names the way from a key to a stream; recorded with every run.
SCHEME = "keyed-v1"
#: numpy pads a seed to four words before the spawn key; a longer one would run into the key (RN2).
SEED_BITS_MAX = 128
#: One word each in the spawn key (RN2).
POSITION_MAX = 2**32 - 1
#: Draws of each kind that `probe` looks at.
PROBE_DRAWS = 64
#: Words in the key of a Mersenne Twister, and the last position in it.
MT19937_WORDS = 624
#: Purposes are literals of trainers; the bound only keeps a made-up name from costing memory.
PURPOSES_CACHED = 1024

BitGenerator: TypeAlias = (
    np.random.MT19937 | np.random.PCG64 | np.random.PCG64DXSM | np.random.Philox | np.random.SFC64
)
#: What `restore` may build.
_BIT_GENERATORS: dict[str, type[BitGenerator]] = {
    "MT19937": np.random.MT19937,
    "PCG64": np.random.PCG64,
    "PCG64DXSM": np.random.PCG64DXSM,
    "Philox": np.random.Philox,
    "SFC64": np.random.SFC64,
}

_globals_lock = threading.RLock()


@lru_cache(maxsize=PURPOSES_CACHED)
def purpose_key(purpose: str) -> int:
    """Return the word that stands for a purpose: the first 4 bytes of its SHA-256, big-endian."""
    return int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:4], "big")


def stream(seed: int, purpose: str, *, epoch: int = 0, step: int = 0) -> np.random.Generator:
    """Return a fresh generator at the start of one key's stream (RN1).

    Raises:
        BadHyperparameter: A seed that is no whole number from 0 to 2**128 - 1.
    """
    return np.random.Generator(np.random.Philox(_sequence(seed, purpose, epoch, step)))


def seed_globals(seed: int, epoch: int, step: int) -> None:
    """Seed the generators of ``random``, ``numpy.random`` and, where it is loaded, torch.

    They are this process's: nothing else in it may draw from them meanwhile; see `own_globals`.
    """
    words = [int(word) for word in _sequence(seed, "globals", epoch, step).generate_state(12)]
    random.seed(int.from_bytes(b"".join(word.to_bytes(4, "little") for word in words[:4]), "big"))
    np.random.seed(words[4:8])
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        # One call seeds the devices too.  It takes 64 bits; 63 keep clear of the sign.
        torch.manual_seed((words[8] << 32 | words[9]) >> 1)


@contextmanager
def own_globals(*, draws: bool) -> Iterator[None]:
    """Keep the generators of this process from others who ask so, while `draws` (RN4)."""
    if not draws:
        yield
        return
    with _globals_lock:
        yield


@lru_cache(maxsize=1)
def probe() -> str:
    """Return the SHA-256 over 64 draws of each kind in use, in hex; cached (RN3)."""
    found = hashlib.sha256(SCHEME.encode())
    for name, draw in _PROBED.items():
        drawn = draw(stream(0, f"probe {name}"))
        found.update(f"\0{name}\0{drawn.dtype.str}\0".encode() + drawn.tobytes())
    return found.hexdigest()


#: The draws that trainers here and the adapters make.
_PROBED: dict[str, Callable[[np.random.Generator], np.ndarray[Any, Any]]] = {
    "random float64": lambda g: g.random(PROBE_DRAWS),
    "random float32": lambda g: g.random(PROBE_DRAWS, dtype=np.float32),
    "normal float64": lambda g: g.standard_normal(PROBE_DRAWS),
    "normal float32": lambda g: g.standard_normal(PROBE_DRAWS, dtype=np.float32),
    "uniform": lambda g: g.uniform(-1.0, 1.0, PROBE_DRAWS),
    "integers": lambda g: g.integers(0, 1_000_003, PROBE_DRAWS),
    "permutation": lambda g: g.permutation(np.arange(PROBE_DRAWS)),
    "choice": lambda g: g.choice(1000, PROBE_DRAWS, replace=False),
    "exponential": lambda g: g.standard_exponential(PROBE_DRAWS),
}


def state_of(generator: np.random.Generator) -> Json:
    """Return a generator's whole state as JSON, from which `restore` goes on with the next draw.

    Integers are strings of decimals: some have 128 bits, which other readers of JSON would round.

    Raises:
        BadRecord: A kind of bit generator that `restore` could not build.
    """
    state: Any = generator.bit_generator.state
    if state["bit_generator"] not in _BIT_GENERATORS:
        raise BadRecord("random state", str(state["bit_generator"]), _known())
    found: Json = _written(state)
    return found


def restore(state: Json) -> np.random.Generator:
    """Return a generator that goes on where the one given to `state_of` stood.

    Raises:
        BadRecord: Not such JSON; no generator was made.
    """
    name = state.get("bit_generator") if isinstance(state, dict) else None
    kind = _BIT_GENERATORS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise BadRecord("random state", f"bit generator {name!r}", _known())
    bits = kind(0)
    found = _read(state, bits.state, "random state")
    # numpy would read beyond the key of a Mersenne Twister whose position lies there.
    at = found["state"].get("pos", 0)
    if at > MT19937_WORDS:
        raise BadRecord("random state.state.pos", str(at), f"{MT19937_WORDS} at most")
    try:
        bits.state = found
    except (OverflowError, ValueError) as error:
        raise BadRecord("random state", str(error), f"what {name} can stand at") from error
    return np.random.Generator(bits)


def _sequence(seed: int, purpose: str, epoch: int, step: int) -> np.random.SeedSequence:
    if type(seed) is not int or seed < 0 or seed.bit_length() > SEED_BITS_MAX:
        raise BadHyperparameter("seed", repr(seed)[:80], "a whole number from 0 to 2**128 - 1")
    assert 0 <= epoch <= POSITION_MAX, epoch
    assert 0 <= step <= POSITION_MAX, step
    return np.random.SeedSequence(
        entropy=seed, spawn_key=(purpose_key(purpose), int(epoch), int(step))
    )


def _known() -> str:
    return f"one of {', '.join(_BIT_GENERATORS)}"


def _written(value: Any) -> Any:
    """Return a part of numpy's state as JSON: names as they are, numbers as decimals."""
    match value:
        case str():
            return value
        case dict():
            return {name: _written(part) for name, part in value.items()}
        case np.ndarray():
            return [str(int(word)) for word in value]
        case _:
            return str(int(value))


def _read(value: Any, like: Any, where: str) -> Any:
    """Return `value` in the shape and the types of `like`, a state of the same kind."""
    match like:
        case dict():
            if not isinstance(value, dict) or value.keys() != like.keys():
                raise BadRecord(where, _shape(value), f"{', '.join(like)}")
            return {n: _read(value[n], part, f"{where}.{n}") for n, part in like.items()}
        case str():
            if value != like:
                raise BadRecord(where, _shape(value), repr(like))
            return like
        case np.ndarray():
            if not isinstance(value, list) or len(value) != len(like):
                raise BadRecord(where, _shape(value), f"{len(like)} words")
            bits = like.dtype.itemsize * 8
            return np.array([_whole(word, bits, where) for word in value], dtype=like.dtype)
        case _:
            return _whole(value, SEED_BITS_MAX, where)


def _whole(value: Any, bits: int, where: str) -> int:
    decimal = isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 40
    if not decimal or int(value).bit_length() > bits:
        raise BadRecord(where, _shape(value), f"a whole number of {bits} bits, as text")
    return int(value)


def _shape(value: Any) -> str:
    return repr(value)[:60]
