"""Objects as files below a directory, local or shared by NFS.

OD1  A file appears under its name whole and durable: written beside it, fsynced, then linked.  A
     link, unlike a rename, never overwrites; the directory is fsynced before anyone is told.
OD2  Whoever replaces or deletes holds one lock below the root, which the kernel gives back when its
     holder dies.  Creating needs none.
OD3  Names beginning with a dot are ours; no key has one.
"""

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from orchestrator.training.errors import (
    ObjectChanged,
    ObjectNotFound,
    ObjectStoreUnavailable,
    ObjectStoreUnfit,
)
from orchestrator.training.objects import (
    Capabilities,
    Creation,
    Hook,
    Listed,
    Stat,
    no_hook,
)
from orchestrator.training.probing import probe_conditions
from orchestrator.training.tensors import Data

_TEMPORARY = ".tmp-"
_LOCK = ".lock"
#: What a file system without hard links answers.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
#: What waiting does not change.
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG)


class DirectoryObjects:
    """See `objects.ObjectStore`.

    Args:
        root: Made if it is not there.
        hook: Called at "written", "synced", "linked" and "replaced".
    """

    def __init__(self, root: Path, *, hook: Hook = no_hook) -> None:
        self._root = root.absolute()
        self._hook = hook
        self._known: set[Path] = set()

    def create(self, key: str, data: Data, sha256: str) -> Creation:
        """See `ObjectStore.create`."""
        path = self._path(key)
        with self._errors("create", key):
            self._make(path.parent)
            created = Creation.EXISTS
            if not path.exists():
                with self._written(path.parent, data) as temporary:
                    created = self._link(temporary, path)
            # Even if it was there: whoever linked it may not have come so far.
            _sync_directory(path.parent)
            return created

    def read(self, key: str) -> bytes:
        """See `ObjectStore.read`."""
        with self._errors("read", key):
            return self._path(key).read_bytes()

    def stat(self, key: str) -> Stat:
        """See `ObjectStore.stat`."""
        with self._errors("stat", key):
            return _stat(self._path(key))

    def replace(self, key: str, data: Data, *, sha256: str, expected: str) -> None:
        """See `ObjectStore.replace`."""
        path = self._path(key)
        with self._errors("replace", key), self._lock():
            if not path.exists() or _stat(path).version != expected:
                raise ObjectChanged(key, expected)
            with self._written(path.parent, data) as temporary:
                temporary.replace(path)
                self._hook("replaced")
            _sync_directory(path.parent)

    def delete(self, key: str, *, expected: str) -> None:
        """See `ObjectStore.delete`."""
        path = self._path(key)
        with self._errors("delete", key), self._lock():
            if not path.exists():
                return
            if _stat(path).version != expected:
                raise ObjectChanged(key, expected)
            path.unlink()
            _sync_directory(path.parent)

    def list(self, prefix: str) -> Iterator[Listed]:
        """See `ObjectStore.list`."""
        found: list[Listed] = []
        with self._errors("list", prefix):
            for path in self._files(self._root / prefix.rpartition("/")[0]):
                key = path.relative_to(self._root).as_posix()
                # Deleted since the directory was read: not there, then.
                with suppress(FileNotFoundError):
                    if key.startswith(prefix) and not path.name.startswith("."):
                        stat = _stat(path)
                        at = stat.modified_at_ms
                        found.append(Listed(key=key, bytes=stat.bytes, modified_at_ms=at))
        yield from sorted(found, key=lambda one: one.key)

    def now_ms(self) -> int:
        """See `ObjectStore.now_ms`."""
        with self._errors("tell the time of", str(self._root)):
            self._make(self._root)
            with self._written(self._root, b"") as temporary:
                return _stat(temporary).modified_at_ms

    def tidy(self, older_than_ms: int) -> int:
        """See `ObjectStore.tidy`."""
        removed = 0
        with self._errors("tidy", str(self._root)):
            for path in self._files(self._root):
                # Its writer has come to an end meanwhile.
                with suppress(FileNotFoundError):
                    old = _stat(path).modified_at_ms < older_than_ms
                    if path.name.startswith(_TEMPORARY) and old:
                        path.unlink()
                        removed += 1
        return removed

    def probe(self) -> Capabilities:
        """See `ObjectStore.probe`."""
        store = f"directory {self._root}"
        probe_conditions(self, store)
        return Capabilities(store=store, checks_sha256=False)

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if any(not part or part.startswith(".") or "\0" in part for part in parts):
            raise ObjectNotFound(key)
        return self._root.joinpath(*parts)

    def _files(self, below: Path) -> Iterator[Path]:
        for folder, _, names in os.walk(below):
            for name in names:
                yield Path(folder, name)

    def _make(self, folder: Path) -> None:
        """Make a directory that survives a power cut together with the way to it."""
        if folder in self._known and folder.exists():
            return
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for one in missing:
            _sync_directory(one.parent)
        self._known.add(folder)

    @contextmanager
    def _written(self, folder: Path, data: Data) -> Iterator[Path]:
        """Give a durable file with this content, which is gone again afterwards."""
        temporary = folder / f"{_TEMPORARY}{secrets.token_hex(8)}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                rest = memoryview(data)
                while rest:
                    rest = rest[file.write(rest) :]
                self._hook("written")
                os.fsync(file.fileno())
            self._hook("synced")
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def _link(self, temporary: Path, path: Path) -> Creation:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return Creation.EXISTS
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            raise ObjectStoreUnfit(
                f"directory {self._root}",
                f"no hard links ({error.strerror})",
                "use a file system that has them, such as ext4, XFS or NFS, or an object store",
            ) from error
        self._hook("linked")
        return Creation.CREATED

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the one lock of all who replace or delete (OD2)."""
        self._make(self._root)
        descriptor = os.open(self._root / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _errors(self, operation: str, key: str) -> Iterator[None]:
        """Word what the file system answers."""
        try:
            yield
        except FileNotFoundError as error:
            raise ObjectNotFound(key) from error
        except OSError as error:
            if error.errno in _REFUSED:
                raise ObjectStoreUnfit(
                    f"directory {self._root}",
                    f"{error.strerror} ({operation} {key})",
                    "name one that this process may write",
                ) from error
            raise ObjectStoreUnavailable(operation, key, str(error.strerror)) from error


def _stat(path: Path) -> Stat:
    found = path.stat()
    # A damaged file has another size or time, a replaced one another inode.
    version = f"{found.st_ino}-{found.st_mtime_ns}-{found.st_size}"
    modified_at_ms = found.st_mtime_ns // 1_000_000
    return Stat(bytes=found.st_size, modified_at_ms=modified_at_ms, version=version)


def _sync_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
