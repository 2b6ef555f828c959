"""What checkpoints need of a store of objects, wherever it is.

O1  Create-once: of all who create one key, one wins, and its bytes stay.  `create` never
    overwrites, not even with the same bytes.
O2  What a store says it holds, it holds whole: an object is never seen half written, and survives
    the death of whoever wrote it once `create` or `replace` has returned.
O3  Compare-and-set: `replace` acts on the version it names, or not at all.  So does `delete` where
    the store can; where it cannot, the version is looked at just before.
O4  A store that cannot do this is refused by `probe`, with the reason, before anything depends on
    it.
O5  Time is the store's own, so that machines with wrong clocks agree on what is old.

Keys are relative to the store, parts joined by "/", each from `layout`.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol, TypeAlias

from orchestrator.training.errors import ObjectChanged, ObjectNotFound
from orchestrator.training.tensors import Data

#: Called at named points of what is written, so that tests can end the process there.
Hook: TypeAlias = Callable[[str], None]


class Creation(Enum):
    """What came of `create`."""

    CREATED = auto()
    EXISTS = auto()


class Put(Enum):
    """What came of `put_whole`."""

    WRITTEN = auto()
    FOUND = auto()
    #: Something else stood there; it was set aside.
    MENDED = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """What a store says of an object without reading it."""

    bytes: int
    modified_at_ms: int
    #: Opaque; another for every other content, possibly also for the same content written again.
    version: str
    #: Digest the store itself checked when the object was written; None where it checks none.
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One object of a listing."""

    key: str
    bytes: int
    modified_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What `probe` found a store to do, beyond what it must."""

    store: str
    #: Refuses bytes that are not those of the digest sent along.
    checks_sha256: bool
    #: Refuses to delete a version that is gone.
    checks_deletes: bool = True


class ObjectStore(Protocol):
    """See the module; every method may raise ObjectStoreUnavailable and ObjectStoreUnfit."""

    def create(self, key: str, data: Data, sha256: str) -> Creation:
        """Store `data`, whose digest is `sha256`, unless the key is taken (O1)."""

    def read(self, key: str) -> bytes:
        """Return an object whole.

        Raises:
            ObjectNotFound: There is none.
        """

    def stat(self, key: str) -> Stat:
        """Return what the store says of an object.

        Raises:
            ObjectNotFound: There is none.
        """

    def replace(self, key: str, data: Data, *, sha256: str, expected: str) -> None:
        """Overwrite the version `expected` (O3).

        Raises:
            ObjectChanged: It is another version by now, or gone.
        """

    def delete(self, key: str, *, expected: str) -> None:
        """Delete the version `expected` (O3); nothing happens if the object is gone.

        Raises:
            ObjectChanged: It is another version by now.
        """

    def list(self, prefix: str) -> Iterator[Listed]:
        """Yield all objects whose key begins with `prefix`, sorted by key."""

    def now_ms(self) -> int:
        """Return the store's time (O5)."""

    def tidy(self, older_than_ms: int) -> int:
        """Remove what writers that died left half written; return how many.

        Whoever still writes, writes something younger.
        """

    def probe(self) -> Capabilities:
        """Try what must hold, on objects under ``_probe/``, and return what else holds (O4).

        Raises:
            ObjectStoreUnfit: Something does not hold; says what happened instead.
        """


def no_hook(point: str) -> None:
    """Do nothing at any point."""


def holds(objects: ObjectStore, key: str, data_bytes: int, sha256: str) -> bool:
    """Return whether an object is there with this content; "exists" alone never says so.

    A digest that the store checked itself is believed, otherwise the object is read.
    """
    try:
        found = objects.stat(key)
        if found.bytes != data_bytes:
            return False
        if found.sha256 is not None:
            return found.sha256 == sha256
        return hashlib.sha256(objects.read(key)).hexdigest() == sha256
    except ObjectNotFound:
        return False


def put_whole(objects: ObjectStore, key: str, data: Data, sha256: str, quarantine: str) -> Put:
    """Make `key` hold `data`, see that it does, and return what that took.

    What else stands there is moved aside to `quarantine` first, and then replaced.  For keys whose
    content is known beforehand only: any other content there is damage.

    Raises:
        ObjectChanged: It was damaged over and over again meanwhile.
    """
    for _ in range(_TRIES):
        created = objects.create(key, data, sha256) is Creation.CREATED
        if holds(objects, key, len(data), sha256):
            return Put.WRITTEN if created else Put.FOUND
        try:
            version = set_aside(objects, key, quarantine)
            objects.replace(key, data, sha256=sha256, expected=version)
        except (ObjectNotFound, ObjectChanged):
            continue
        if holds(objects, key, len(data), sha256):
            return Put.MENDED
    raise ObjectChanged(key, sha256)


def set_aside(objects: ObjectStore, key: str, quarantine: str) -> str:
    """Keep a copy of a damaged object under `quarantine`, and return the version that was copied.

    Raises:
        ObjectNotFound: It is gone.
    """
    version = objects.stat(key).version
    damaged = objects.read(key)
    found = hashlib.sha256(damaged).hexdigest()
    objects.create(f"{quarantine}/{found}", damaged, found)
    return version


#: Each further one means that somebody else wrote the same key in between.
_TRIES = 5
