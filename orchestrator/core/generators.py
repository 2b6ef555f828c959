"""Named numpy generators of one run, from the seed in its first event.

G1  Each name has a stream of its own: drawing from one shifts no other, whatever the order.
G2  numpy promises its streams for one version only.  A probe of what it draws is recorded where a
    generator is first asked for: a version that draws otherwise is found on replay, not followed.

Source: NEP 19 on numpy's stream compatibility; Salmon et al. 2011, "Parallel random numbers: as
easy as 1, 2, 3", for Philox.
"""

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from orchestrator.core.errors import UsageError

if TYPE_CHECKING:
    from numpy.random import Generator as Generator

#: How a name becomes a stream; recorded, so that another one may follow.
SCHEME = "philox-spawn-1"
_PROBE_DRAWS = 64


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
