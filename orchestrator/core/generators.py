"""Named numpy generators of one run, from the seed in its first event.

G1  Each name has a stream of its own: drawing from one shifts no other, whatever the order.
G2  numpy promises its streams for one version only.  A probe of what it draws is recorded where a
    generator is first asked for: a version that draws otherwise is found on replay, not followed.
    What no probe sees, the record of where a stream stands does: see `core.streams`.

Source: NEP 19 on numpy's stream compatibility; Salmon et al. 2011, "Parallel random numbers: as
easy as 1, 2, 3", for Philox.
"""

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from orchestrator.core.errors import UsageError
from orchestrator.core.values import digest

if TYPE_CHECKING:
    from numpy.random import Generator as Generator

#: How a name becomes a stream; recorded, so that another one may follow.
SCHEME = "philox-spawn-1"
_PROBE_DRAWS = 64
_BLOCK_WORDS = 4
_DIGEST_CHARS = 16

#: What tells whether a stream has moved: counter, key, words of the block used, half a word kept.
Standing: TypeAlias = tuple[bytes, bytes, int, int | None]


def generator(seed: str, name: str) -> "Generator":
    """Return the generator of `name` for a run's `seed`, hex: Philox, keyed by the name.

    Raises:
        UsageError: numpy is not installed.
    """
    numpy = _numpy()
    # The spawn key: entropy is padded with zeros, so that names in there could collide.
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big")
    words = tuple(key >> shift & 0xFFFFFFFF for shift in (96, 64, 32, 0))
    sequence = numpy.random.SeedSequence(int(seed, 16), spawn_key=words)
    made: Generator = numpy.random.Generator(numpy.random.Philox(sequence))
    return made


def restart(known: "Generator", seed: str, name: str) -> None:
    """Let a generator draw from now on as `generator` of this seed and name would."""
    stream: Any = known.bit_generator
    # As unpickling does: the seed sequence goes with the state, where this numpy keeps both.
    stream.__setstate__(generator(seed, name).bit_generator.__reduce__()[2])


def standing(known: "Generator") -> Standing:
    """Return where a stream stands, to be compared in this process: it is asked for often."""
    found = known.bit_generator.state
    philox = found["state"]
    half = found["uinteger"] if found["has_uint32"] else None
    return philox["counter"].tobytes(), philox["key"].tobytes(), found["buffer_pos"], half


def position(known: "Generator") -> tuple[int, str]:
    """Return how many words of 64 bits were drawn, and a digest of all that follows from.

    The digest is that of ``[key, counter, words left of the block, half a word kept or null]``, its
    first 64 bits in hex.  Skipping ahead counts as drawing.
    """
    found: Any = known.bit_generator.state
    counter, used = found["state"]["counter"].tolist(), found["buffer_pos"]
    blocks = sum(word << 64 * index for index, word in enumerate(counter))
    left = found["buffer"].tolist()[used:]
    half = found["uinteger"] if found["has_uint32"] else None
    whole = digest([found["state"]["key"].tolist(), counter, left, half])
    return blocks * _BLOCK_WORDS + used - _BLOCK_WORDS, whole[:_DIGEST_CHARS]


@lru_cache(maxsize=1)
def probe() -> str:
    """Return the digest, hex, of some draws by every usual method: how this numpy draws."""
    numpy = _numpy()
    draws = generator("0", "probe")
    seen = hashlib.sha256()
    for floats in (
        draws.random(_PROBE_DRAWS),
        draws.standard_normal(_PROBE_DRAWS),
        draws.standard_exponential(_PROBE_DRAWS),
        draws.random(_PROBE_DRAWS, dtype=numpy.float32),
    ):
        seen.update(floats.astype("<f8").tobytes())
    for integers in (
        draws.integers(1_000_003, size=_PROBE_DRAWS),
        draws.permutation(_PROBE_DRAWS),
        draws.choice(_PROBE_DRAWS, 8, replace=False),
    ):
        seen.update(integers.astype("<i8").tobytes())
    return seen.hexdigest()


def _numpy() -> Any:
    try:
        import numpy
    except ImportError as error:
        raise UsageError(
            "workflow.rng() gives numpy generators, and numpy is not installed; install it, or use "
            "workflow.random()"
        ) from error
    return numpy
