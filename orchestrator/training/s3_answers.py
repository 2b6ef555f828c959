"""What the answers of an S3 store mean, and which of its checks can be relied on."""

import hashlib
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any

from botocore.exceptions import ClientError

from orchestrator.training.errors import (
    ObjectChanged,
    ObjectNotFound,
    ObjectStoreUnavailable,
    ObjectStoreUnfit,
    TrainingError,
)
from orchestrator.training.probing import PREFIX

_SHA256_BYTES = 32


class Answer(Enum):
    """What a store means by refusing."""

    CHANGED = auto()
    CONFLICT = auto()
    MISSING = auto()
    LATER = auto()
    NEVER = auto()


def answer_of(error: ClientError) -> Answer:
    """Return what an error means for whoever asked."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code == "NoSuchBucket":
        return Answer.NEVER
    if status == 412:
        return Answer.CHANGED
    if status == 409:
        return Answer.CONFLICT
    if status == 404:
        return Answer.MISSING
    # A wrong digest is damage on the way; sent again, it may arrive.
    transient = code in ("BadDigest", "XAmzContentChecksumMismatch", "RequestTimeout", "SlowDown")
    if status >= 500 or status == 429 or transient:
        return Answer.LATER
    return Answer.NEVER


def error_for(error: ClientError, operation: str, key: str, bucket: str) -> TrainingError:
    """Return our word for what the store answered."""
    match answer_of(error):
        case Answer.MISSING:
            return ObjectNotFound(key)
        case Answer.CHANGED:
            return ObjectChanged(key, "asked for")
        case Answer.LATER | Answer.CONFLICT:
            return ObjectStoreUnavailable(operation, key, _words(error))
        case Answer.NEVER:
            return ObjectStoreUnfit(
                f"bucket {bucket}",
                f"{_words(error)} ({operation} {key})",
                "look at its name, the endpoint, and what the credentials are allowed",
            )


def _words(error: ClientError) -> str:
    found = error.response.get("Error", {})
    return f"{found.get('Code', 'an error')}: {found.get('Message', 'without a message')}"


def sha256_of(answer: Mapping[str, Any]) -> str | None:
    """Return the digest of a whole object, in hex; None if the store has none or one of parts."""
    found = str(answer.get("ChecksumSHA256", ""))
    if not found or "-" in found or answer.get("ChecksumType") == "COMPOSITE":
        return None
    digest = b64decode(found)
    return digest.hex() if len(digest) == _SHA256_BYTES else None


def probe_checks(ask: Callable[..., Any]) -> tuple[bool, bool]:
    """Return whether the store refuses wrong digests, and deletes under a condition that fails."""
    key = f"{PREFIX}/{secrets.token_hex(16)}"
    wrong = b64encode(hashlib.sha256(b"other").digest()).decode()
    try:
        ask("put_object", key, Body=b"one", ChecksumAlgorithm="SHA256", ChecksumSHA256=wrong)
    except (ObjectStoreUnavailable, ObjectStoreUnfit):
        checks_sha256 = True
        ask("put_object", key, Body=b"one")
    else:
        checks_sha256 = False
    try:
        ask("delete_object", key, IfMatch='"00000000000000000000000000000000"')
    except ObjectChanged:
        return checks_sha256, True
    except (ObjectStoreUnfit, ObjectStoreUnavailable):
        # It does not know conditions here, and says so.
        return checks_sha256, False
    finally:
        ask("delete_object", key)
    return checks_sha256, False
