"""Where the objects of a run are.

L1  ``{run}/blobs/sha256/{digest}``            bytes by their digest; immutable, shared by branches
    ``{run}/ckpt/{branch}/{step}-{work}.json``  a checkpoint's manifest; immutable
    ``{run}/archive/{branch}/{step}-{work}.json``  the same, once its weights were collected
    ``{run}/quarantine/{place}/{digest}``       what was damaged, before it was mended
L2  Everything of a run is below one prefix: it is deleted by it, and no other run refers to it.
L3  The name of a manifest says of which work it is (`manifest.work_of`).  So the same work, done
    twice, meets itself under one key, and another work at the same step is never in its way.
L4  Ids can hold any character; what is not plain is escaped, what is long is cut, with a digest.
"""

import hashlib
from urllib.parse import quote

from orchestrator.training.errors import BadCheckpoint

#: File systems take 255 bytes.
_PART_CHARS_MAX = 160
_STEP_DIGITS = 12
_WORK_DIGITS = 16


def part(name: str) -> str:
    """Return `name` as one part of a key (L4); different names give different parts."""
    assert name, "a part of a key has a name"
    # `quote` leaves these as they are; a leading dot is a store's own, and ~ marks what was cut.
    escaped = quote(name, safe="@=+:").replace("~", "%7E")
    if escaped.startswith("."):
        escaped = f"%2E{escaped[1:]}"
    if len(escaped) <= _PART_CHARS_MAX:
        return escaped
    return f"{escaped[: _PART_CHARS_MAX - 65]}~{hashlib.sha256(name.encode()).hexdigest()}"


def blobs(run: str) -> str:
    """Return the prefix of all blobs of a run."""
    return f"{part(run)}/blobs/sha256/"


def blob(run: str, sha256: str) -> str:
    """Return where bytes with this digest are."""
    return f"{blobs(run)}{sha256}"


def manifests(run: str, branch: str | None = None) -> str:
    """Return the prefix of all manifests of a run, or of one branch."""
    return f"{part(run)}/ckpt/" + (f"{part(branch)}/" if branch is not None else "")


def manifest(run: str, branch: str, step: int, work: str) -> str:
    """Return where the manifest of a work's checkpoint is."""
    return f"{manifests(run, branch)}{step:0{_STEP_DIGITS}d}-{work[:_WORK_DIGITS]}.json"


def archive(run: str) -> str:
    """Return the prefix of the manifests of collected checkpoints."""
    return f"{part(run)}/archive/"


def archived(key: str) -> str:
    """Return where the manifest of `key` stands once its checkpoint is collected."""
    run, _, rest = key.partition("/ckpt/")
    return f"{run}/archive/{rest}"


def live(key: str) -> str:
    """Return where an archived manifest stood; the key itself if it is none of the archive."""
    run, found, rest = key.partition("/archive/")
    return f"{run}/ckpt/{rest}" if found and "/" not in run else key


def quarantine(run: str, key: str) -> str:
    """Return the prefix under which damaged versions of `key` are kept."""
    return f"{part(run)}/quarantine/{part(key.rpartition('/')[2])}"


def step_of(key: str) -> int:
    """Return the step that a manifest's key names.

    Raises:
        BadCheckpoint: It is no such key.
    """
    name = key.rpartition("/")[2]
    digits = name.partition("-")[0]
    if not name.endswith(".json") or not digits.isascii() or not digits.isdigit():
        raise BadCheckpoint(key, "not the key of a manifest")
    return int(digits)
