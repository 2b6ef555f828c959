"""One codec, put in front of everything through which an app's payloads leave the process."""

from typing import Any

from orchestrator.core.errors import ConfigurationError, StoreUnavailable
from orchestrator.engine.ports import ErasableBlobs
from orchestrator.sealing import parts
from orchestrator.sealing.blobs import SealedBlobs
from orchestrator.sealing.codec import TRANSIT, KeyedCodec, PayloadCodec, PayloadSealed
from orchestrator.sealing.store import SealedStore
from orchestrator.store.ports import RunKey

_PROBE = b'"probe"'


class Seal:
    """What an app with a payload codec does to its store, blobs, events and messages."""

    def __init__(self, codec: PayloadCodec) -> None:
        self.codec = codec

    def store(self, store: Any) -> Any:
        """Return `store` with payloads sealed."""
        if isinstance(self.codec, KeyedCodec):
            self.codec.attach(store)
        return SealedStore(store, self.codec)

    def blobs(self, blobs: ErasableBlobs) -> SealedBlobs:
        """Return `blobs` with values sealed."""
        return SealedBlobs(blobs, self.codec)

    def event(self, key: RunKey, data: bytes) -> bytes:
        """Return the bytes of a run's event with its payloads sealed."""
        return parts.seal_event(data, self.codec, str(key))

    def text(self, text: str) -> str:
        """Return a JSON text that is on its way, sealed."""
        return parts.seal_text(text, self.codec, TRANSIT)

    def opened_text(self, text: str) -> str:
        """Return what `text` was given.

        Raises:
            StoreUnavailable: It cannot be opened here; it may be elsewhere.
        """
        try:
            return parts.unseal_text(text, self.codec)
        except PayloadSealed as error:
            raise StoreUnavailable("opening the arguments", str(error)) from error

    @property
    def keys(self) -> KeyedCodec:
        """The codec as one that has keys to shred and to rotate.

        Raises:
            ConfigurationError: It has none.
        """
        if not isinstance(self.codec, KeyedCodec):
            kind = type(self.codec).__name__
            raise ConfigurationError(
                "payload codec", kind, "one with keys is wanted, as EncryptionCodec"
            )
        return self.codec

    def check(self) -> None:
        """Seal and open something.

        Raises:
            PayloadSealed: This process has not the keys that the namespace is sealed with.
            StoreUnavailable: No answer.
        """
        sealed = self.codec.encode(_PROBE, scope=TRANSIT)
        if self.codec.decode(sealed, scope=TRANSIT) != _PROBE:
            raise PayloadSealed(TRANSIT, "the codec does not return what it was given")
