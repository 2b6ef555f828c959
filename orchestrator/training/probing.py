"""Does a store keep what it promises?  Tried on objects of our own, before a run depends on it.

Some stores take a condition and overwrite nevertheless, without a word.  So no answer is believed
here: after every refusal, and after every success, the object is read.
"""

import hashlib
import secrets

from orchestrator.training.errors import ObjectChanged, ObjectNotFound, ObjectStoreUnfit
from orchestrator.training.objects import Creation, ObjectStore

#: Under this the objects of a probe are; whatever is older than a minute there may be deleted.
PREFIX = "_probe"
_FIRST, _SECOND = b"first", b"second"
_WANTED = "a store that keeps what was created first (If-None-Match, If-Match), such as {}"
_SUCH_AS = "Amazon S3, MinIO, Cloudflare R2 or a directory"


def probe_conditions(objects: ObjectStore, store: str) -> None:
    """Try create-once and compare-and-set.

    Raises:
        ObjectStoreUnfit: One of them does not hold.
    """
    key = f"{PREFIX}/{secrets.token_hex(16)}"
    if objects.create(key, _FIRST, _sha256(_FIRST)) is not Creation.CREATED:
        raise _unfit(store, "a key that nobody has used taken")
    try:
        again = objects.create(key, _SECOND, _sha256(_SECOND))
        if objects.read(key) != _FIRST:
            raise _unfit(
                store, "an object silently overwritten by a create that must not overwrite"
            )
        if again is not Creation.EXISTS:
            raise _unfit(store, "a second create of one key answered as if it had been the first")
        _probe_replace(objects, key, store)
    finally:
        _forget(objects, key)


def _probe_replace(objects: ObjectStore, key: str, store: str) -> None:
    old = objects.stat(key).version
    objects.replace(key, _SECOND, sha256=_sha256(_SECOND), expected=old)
    if objects.read(key) != _SECOND:
        raise _unfit(store, "an object that was replaced unchanged")
    try:
        objects.replace(key, _FIRST, sha256=_sha256(_FIRST), expected=old)
    except ObjectChanged:
        refused = True
    else:
        refused = False
    if objects.read(key) != _SECOND:
        raise _unfit(store, "an object silently overwritten that had changed meanwhile")
    if not refused:
        raise _unfit(
            store, "a replacement of a version that is gone answered as if it had happened"
        )


def _forget(objects: ObjectStore, key: str) -> None:
    try:
        objects.delete(key, expected=objects.stat(key).version)
    except ObjectNotFound:
        # A store that loses what was just written has been refused already, with that reason.
        return


def _unfit(store: str, found: str) -> ObjectStoreUnfit:
    return ObjectStoreUnfit(store, found, _WANTED.format(_SUCH_AS))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
