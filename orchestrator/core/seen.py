"""What a chain remembers of the messages that its earlier runs have taken: digests of their ids.

Kept in `RunStarted.seen` and `HistoryCopied.seen`, so that a message which is sent again is known,
whichever run of the chain it reaches.
"""

import hashlib
from collections.abc import Mapping

from orchestrator.core.ledger import Ledger
from orchestrator.core.values import Json


def signal_digest(signal_id: str) -> str:
    """Return what a chain remembers of a signal's id: 64 bits of its SHA-256, in hex."""
    return hashlib.sha256(signal_id.encode()).hexdigest()[:16]


def update_digest(update_id: str) -> str:
    """Return what a chain remembers of an update's id: another digest than a signal's of it."""
    return signal_digest(f"update\0{update_id}")


def is_taken(ledger: Ledger, body: Mapping[str, Json]) -> bool:
    """Return whether the run, or one before it in its chain, has taken a message of this id."""
    digests = {"signal_id": signal_digest, "update_id": update_digest}
    return ledger.knows(body) or any(
        digest_of(str(body[name])) in ledger.seen
        for name, digest_of in digests.items()
        if body.get(name)
    )
