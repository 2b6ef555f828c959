"""Chance that replays: one stream of random numbers per run, from the seed in its first event."""

import random
import uuid


def stream(seed: str) -> random.Random:
    """Return the run's generator; `seed` is hex."""
    return random.Random(int(seed, 16))  # noqa: S311 - reproducible on purpose


def draw(seed: str, name: str) -> float:
    """Return the number in [0, 1) that the run's seed has for `name`; no stream moves."""
    return random.Random(f"{seed}.{name}").random()  # noqa: S311 - reproducible on purpose


def uuid4(source: random.Random) -> uuid.UUID:
    """Return a version 4 UUID drawn from `source`."""
    return uuid.UUID(int=source.getrandbits(128), version=4)
