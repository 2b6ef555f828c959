"""What a payload codec is: bytes to bytes, at the edge of the process.

PC1  A codec runs outside workflow code: it may ask a key server, and need not be deterministic.
PC2  What `encode` returned under a scope, `decode` opens under that scope, in every process of the
     namespace, for as long as the scope's key is kept.
PC3  The chain is computed over what was encoded: it verifies for whoever has no key.
"""

from typing import Protocol, runtime_checkable

from orchestrator.core.errors import PayloadSealed as PayloadSealed
from orchestrator.store.ports import KeyStore

#: The scope of what is on its way and lies nowhere for good: inbox, letters, messages, answers.
TRANSIT = "transit"


class PayloadCodec(Protocol):
    """Turns payloads into what is stored, and back."""

    def encode(self, data: bytes, *, scope: str) -> bytes:
        """Return what is stored for `data`, a payload's JSON.

        `scope` is ``"<workflow id>.<run>"`` for what a history keeps, or `TRANSIT`.

        Raises:
            PayloadSealed: The scope's key was shredded, or cannot be had.
            StoreUnavailable: Keys are kept in the store, and it does not answer.
        """
        ...

    def decode(self, data: bytes, *, scope: str) -> bytes:
        """Return what `encode` was given.

        Raises:
            PayloadSealed: The scope's key was shredded or cannot be had, or `data` was tampered
                with.
            StoreUnavailable: As in `encode`.
        """
        ...


@runtime_checkable
class FingerprintingCodec(Protocol):
    """A codec that can tell equal payloads by what nobody without the keys can make of them."""

    def fingerprint(self, data: bytes) -> str:
        """Return the same text for the same `data`, in every process of the namespace.

        Raises:
            PayloadSealed, StoreUnavailable: As in `PayloadCodec.encode`.
        """
        ...


@runtime_checkable
class KeyedCodec(PayloadCodec, Protocol):
    """A codec with a key for each scope, kept in the store."""

    def attach(self, store: KeyStore) -> None:
        """Keep keys in `store` from now on."""
        ...

    def shred(self, scope: str, *, at_ms: int) -> bool:
        """Make the payloads of `scope` unreadable for good; False if they already were.

        Raises:
            StoreUnavailable: No answer; do it again.
        """
        ...

    def rotate(self, scope: str) -> bool:
        """Wrap the key of `scope` under the current master key; False if it was.

        Raises:
            PayloadSealed: The master key that wrapped it is not here.
            StoreUnavailable: No answer; do it again.
        """
        ...
