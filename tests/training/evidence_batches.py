"""Batches for tests of the ledger and its proofs: samples whose contents follow from their ids."""

import hashlib
from collections.abc import Sequence

from hypothesis import strategies as st

from orchestrator.training.ledger import Ledger

Batch = tuple[int, int, list[int]]


def sample_digest(sample: int) -> bytes:
    """Return the SHA-256 of the sample with this id."""
    return hashlib.sha256(b"sample %d" % sample).digest()


def ledger_of(batches: Sequence[Batch]) -> Ledger:
    """Return a ledger of batches, each an epoch, a step and ids."""
    ledger = Ledger()
    for epoch, step, ids in batches:
        ledger.add(epoch, step, ids, [sample_digest(sample) for sample in ids])
    return ledger


def two_epochs() -> list[Batch]:
    """Return two epochs of three batches over the samples 0 to 8; 100 is in none."""
    return [
        (0, 0, [4, 8, 1]),
        (0, 1, [0, 7, 2]),
        (0, 2, [3, 6, 5]),
        (1, 0, [2, 1, 0]),
        (1, 1, [5, 4, 3]),
        (1, 2, [8, 7, 6]),
    ]


@st.composite
def batches(draw: st.DrawFn) -> list[Batch]:
    """Draw batches in the order of their steps, of ids as datasets have them."""
    places = draw(
        st.lists(
            st.tuples(st.integers(0, 3), st.integers(0, 20)), unique=True, min_size=0, max_size=20
        )
    )
    ids = st.lists(st.integers(-5, 30), max_size=6)
    return [(epoch, step, draw(ids)) for epoch, step in sorted(places)]
