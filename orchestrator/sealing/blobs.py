"""A blob store whose values are sealed.

SB1  A reference still has the digest of the value itself, so that replay compares as before; where
     the sealed bytes lie is beside it, and a value that is put twice lies twice: shredding one run
     takes nothing from another.
"""

import base64
from dataclasses import replace

from orchestrator.core.blobs import BlobRef
from orchestrator.core.errors import BlobUnavailable
from orchestrator.core.values import Json, canonical, digest, loads
from orchestrator.engine.ports import ErasableBlobs
from orchestrator.sealing.codec import TRANSIT, PayloadCodec, PayloadSealed


class SealedBlobs:
    """See `ErasableBlobs`."""

    def __init__(self, blobs: ErasableBlobs, codec: PayloadCodec) -> None:
        self._blobs = blobs
        self._codec = codec

    def put(self, value: Json) -> BlobRef:
        """See `BlobStore.put`."""
        data = canonical(value)
        sealed = base64.b64encode(self._codec.encode(data, scope=TRANSIT)).decode()
        kept = self._blobs.put(sealed)
        return BlobRef(sha256=digest(value), size=len(data), at=kept.sha256)

    def get(self, ref: BlobRef) -> Json:
        """See `BlobStore.get`."""
        if not ref.at:
            return self._blobs.get(ref)
        sealed = self._blobs.get(replace(ref, sha256=ref.at, at=""))
        try:
            value = loads(self._codec.decode(base64.b64decode(str(sealed)), scope=TRANSIT))
        except PayloadSealed as error:
            reason = f"it cannot be opened here: {error.reason}"
            raise BlobUnavailable(f"blob {ref.sha256}", reason) from error
        if digest(value) != ref.sha256:
            raise BlobUnavailable(f"blob {ref.sha256}", "it is another value than the one meant")
        return value

    def delete(self, ref: BlobRef) -> None:
        """Delete what lies under `ref`; nothing for one that is gone."""
        self._blobs.delete(replace(ref, sha256=ref.at or ref.sha256, at=""))
