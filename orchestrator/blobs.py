"""Large values in a directory that workers and orchestrators share, by content.

A value lies in ``<directory>/<first two of its digest>/<digest>`` as canonical JSON.

DB1  A file appears whole or not at all: written aside, synced, renamed.
DB2  What is read is checked against its digest; a damaged file is an error, never a value.
DB3  Putting a value whose file is damaged mends the file.
"""

import hashlib
import json
import os
import re
import tempfile
from pathlib import Path

from orchestrator.core.blobs import BlobRef
from orchestrator.core.errors import BlobUnavailable, PayloadTooLarge, StoreUnavailable
from orchestrator.core.limits import BLOB_BYTES_MAX
from orchestrator.core.values import Json, canonical

_SHA256 = re.compile(r"[0-9a-f]{64}")


class DirectoryBlobs:
    """See `engine.ports.ErasableBlobs`.  The directory is made at the first value."""

    def __init__(self, path: str | Path) -> None:
        self._root = Path(path)

    def put(self, value: Json) -> BlobRef:
        """See `BlobStore.put`."""
        data = canonical(value)
        if len(data) > BLOB_BYTES_MAX:
            raise PayloadTooLarge("value for the blob store", len(data), BLOB_BYTES_MAX)
        ref = BlobRef(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        path = self._path_of(ref)
        try:
            if not _holds(path, data):
                _write(path, data)
        except OSError as error:
            raise StoreUnavailable(f"writing blob {ref.sha256[:12]}", _why(error)) from error
        return ref

    def get(self, ref: BlobRef) -> Json:
        """See `BlobStore.get`."""
        blob = f"blob {ref.sha256[:64]}"
        if not _SHA256.fullmatch(ref.sha256):
            raise BlobUnavailable(blob, "the reference names no SHA-256")
        place = self._root.absolute()
        try:
            data = self._path_of(ref).read_bytes()
        except FileNotFoundError as error:
            reason = f"it is not in {place}: put it back, or let all processes share the directory"
            raise BlobUnavailable(blob, reason) from error
        except OSError as error:
            raise BlobUnavailable(blob, f"it cannot be read: {_why(error)}") from error
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            reason = f"its file in {place} is damaged: put back one that is whole"
            raise BlobUnavailable(blob, reason)
        value: Json = json.loads(data)
        return value

    def delete(self, ref: BlobRef) -> None:
        """See `ErasableBlobs.delete`."""
        if not _SHA256.fullmatch(ref.sha256):
            return
        try:
            self._path_of(ref).unlink(missing_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"deleting blob {ref.sha256[:12]}", _why(error)) from error

    def _path_of(self, ref: BlobRef) -> Path:
        return self._root / ref.sha256[:2] / ref.sha256


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except FileNotFoundError:
        return False


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    # The name is durable only once its directory is.
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _why(error: OSError) -> str:
    return f"{error.strerror or type(error).__name__}: {error.filename or 'no file named'}"
