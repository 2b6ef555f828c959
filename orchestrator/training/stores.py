"""Opens a store of objects by its address, and probes it.

``/path`` or ``file:///path``                    a directory
``s3://bucket/prefix?endpoint=URL&region=NAME&checksums=when_required``   a bucket
"""

from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from orchestrator.training.errors import ObjectStoreUnfit, TrainingDependencyMissing
from orchestrator.training.objects import Capabilities, ObjectStore
from orchestrator.training.objects_directory import DirectoryObjects

_WANTED = "use a path, file:///path or s3://bucket/prefix"
_OPTIONS = ("endpoint", "region", "checksums")
_CHECKSUMS = ("when_supported", "when_required")


def open_objects(address: str) -> tuple[ObjectStore, Capabilities]:
    """Return the store at `address` once it is known to keep what it promises, and what it can.

    Raises:
        ObjectStoreUnfit: No such address, or a store that checkpoints would not be safe in.
        ObjectStoreUnavailable: No answer.
        TrainingDependencyMissing: boto3 is needed for it.
    """
    objects = objects_at(address)
    return objects, objects.probe()


def objects_at(address: str) -> ObjectStore:
    """Return the store at `address` without a try, for who only reads: nothing is written.

    Raises:
        ObjectStoreUnfit: No such address.
        TrainingDependencyMissing: boto3 is needed for it.
    """
    parts = urlsplit(address)
    objects: ObjectStore
    if parts.scheme == "s3":
        objects = _s3(address)
    elif parts.scheme in ("", "file") and not parts.netloc and parts.path:
        path = unquote(parts.path) if parts.scheme else address
        objects = DirectoryObjects(Path(path))
    else:
        raise ObjectStoreUnfit(f"the store {address!r}", "an unknown kind of address", _WANTED)
    return objects


def _s3(address: str) -> ObjectStore:
    try:
        from orchestrator.training.objects_s3 import S3Objects, S3Settings
    except ModuleNotFoundError as error:
        raise TrainingDependencyMissing(f"the store {address!r}", "boto3", "s3") from error
    parts = urlsplit(address)
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(given.keys() - set(_OPTIONS))
    checksums = given.get("checksums", "when_supported")
    if not parts.netloc or unknown or checksums not in _CHECKSUMS:
        raise ObjectStoreUnfit(
            f"the store {address!r}",
            f"unknown options {', '.join(unknown)}" if unknown else "a part that does not fit",
            f"s3://bucket/prefix with any of {', '.join(_OPTIONS)}; "
            f"checksums is {' or '.join(_CHECKSUMS)}",
        )
    return S3Objects(
        S3Settings(
            bucket=parts.netloc,
            prefix=unquote(parts.path).strip("/"),
            endpoint_url=given.get("endpoint"),
            region=given.get("region"),
            checksums="when_required" if checksums == "when_required" else "when_supported",
        )
    )
