"""Objects in a bucket of S3, or of a store that speaks its protocol.

OS1  A condition goes with every write: If-None-Match to create, If-Match to replace.  A store that
     takes the condition and overwrites nevertheless is found out by `probe`.
OS2  Bytes travel with their SHA-256.  Whether the store checks it is probed; where it does not,
     what was written is read back.
OS3  What is longer than `multipart_bytes` goes up in parts, with the condition on the last call.
     Whatever ends it, the upload is aborted, so that no part is paid for without being an object.
OS4  A version is an ETag, and so mostly a digest of the content: bytes written again as they were
     are the same version.  Between the collector's last look at bytes that nobody has named for a
     day and its delete, a request later, a save that meets the very same bytes loses them; whoever
     loads that checkpoint finds it damaged, and trains it again.  No condition excludes it: a
     delete asks for an ETag alone, and a form of another ETag, in parts, would have to be completed
     under If-Match, which not all stores heed.
"""

import os
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, Literal

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from orchestrator.training.errors import ObjectChanged, ObjectNotFound, ObjectStoreUnavailable
from orchestrator.training.objects import (
    Capabilities,
    Creation,
    Hook,
    Listed,
    Stat,
    no_hook,
)
from orchestrator.training.probing import probe_conditions
from orchestrator.training.s3_answers import (
    Answer,
    answer_of,
    error_for,
    probe_checks,
    sha256_of,
)
from orchestrator.training.tensors import Data

_MIB = 1 << 20
#: A conflict means that somebody writes the same key at this moment.
_CONFLICTS_MAX = 8
_CONFLICT_WAIT_S = 0.05
_session_lock = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """Where the bucket is, and how to talk to it; credentials come from boto3's usual places."""

    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None
    region: str | None = None
    #: For stores that do not know the checksums of newer clients: "when_required".
    checksums: Literal["when_supported", "when_required"] = "when_supported"
    multipart_bytes: int = 64 * _MIB
    part_bytes: int = 16 * _MIB
    attempts_max: int = 5
    connect_timeout_s: float = 5
    read_timeout_s: float = 60
    #: Further arguments for ``boto3.client``.
    client: Mapping[str, Any] = field(default_factory=dict)


class S3Objects:
    """See `objects.ObjectStore`.  For any number of threads; a forked child connects anew.

    `hook` is called at "put", "upload", "part" and "completed".
    """

    def __init__(self, settings: S3Settings, *, hook: Hook = no_hook) -> None:
        self._settings = settings
        self._prefix = f"{settings.prefix.strip('/')}/" if settings.prefix.strip("/") else ""
        self._hook = hook
        self._client: Any = None
        self._client_of = 0
        self._lock = threading.Lock()
        self._checks_sha256 = False
        self._checks_deletes = False

    def create(self, key: str, data: Data, sha256: str) -> Creation:
        """See `ObjectStore.create`."""
        try:
            self._write(key, data, sha256, {"IfNoneMatch": "*"})
        except ObjectChanged:
            return Creation.EXISTS
        return Creation.CREATED

    def read(self, key: str) -> bytes:
        """See `ObjectStore.read`."""
        # Without ChecksumMode: whoever reads, compares with a digest of his own.
        answer = self._ask("get_object", key)
        try:
            found: bytes = answer["Body"].read()
        except BotoCoreError as error:
            raise ObjectStoreUnavailable("get_object", key, str(error)) from error
        return found

    def stat(self, key: str) -> Stat:
        """See `ObjectStore.stat`."""
        answer = self._ask("head_object", key, ChecksumMode="ENABLED")
        return Stat(
            bytes=answer["ContentLength"],
            modified_at_ms=int(answer["LastModified"].timestamp() * 1000),
            version=answer["ETag"],
            sha256=sha256_of(answer) if self._checks_sha256 else None,
        )

    def replace(self, key: str, data: Data, *, sha256: str, expected: str) -> None:
        """See `ObjectStore.replace`."""
        self._write(key, data, sha256, {"IfMatch": expected})

    def delete(self, key: str, *, expected: str) -> None:
        """See `ObjectStore.delete`."""
        try:
            if self.stat(key).version != expected:
                raise ObjectChanged(key, expected)
            condition = {"IfMatch": expected} if self._checks_deletes else {}
            self._ask("delete_object", key, **condition)
        except ObjectNotFound:
            return

    def list(self, prefix: str) -> Iterator[Listed]:
        """See `ObjectStore.list`."""
        more: dict[str, str] = {}
        while True:
            answer = self._ask("list_objects_v2", None, Prefix=f"{self._prefix}{prefix}", **more)
            for one in answer.get("Contents", ()):
                at = int(one["LastModified"].timestamp() * 1000)
                key = one["Key"].removeprefix(self._prefix)
                yield Listed(key=key, bytes=one["Size"], modified_at_ms=at)
            if not answer.get("IsTruncated"):
                return
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def now_ms(self) -> int:
        """See `ObjectStore.now_ms`; in whole seconds."""
        headers = self._ask("head_bucket", None)["ResponseMetadata"]["HTTPHeaders"]
        return int(parsedate_to_datetime(headers["date"]).timestamp() * 1000)

    def tidy(self, older_than_ms: int) -> int:
        """See `ObjectStore.tidy`: aborts uploads; only the first thousand, the next time more."""
        answer = self._ask("list_multipart_uploads", None, Prefix=self._prefix)
        aborted = 0
        for upload in answer.get("Uploads", ()):
            if upload["Initiated"].timestamp() * 1000 < older_than_ms:
                key = upload["Key"].removeprefix(self._prefix)
                try:
                    self._ask("abort_multipart_upload", key, UploadId=upload["UploadId"])
                except ObjectNotFound:
                    continue
                aborted += 1
        return aborted

    def probe(self) -> Capabilities:
        """See `ObjectStore.probe`.  Without it, everything that was written is read back."""
        store = f"bucket {self._settings.bucket} at {self._settings.endpoint_url or 'AWS'}"
        probe_conditions(self, store)
        self._checks_sha256, self._checks_deletes = probe_checks(self._ask)
        return Capabilities(
            store=store, checks_sha256=self._checks_sha256, checks_deletes=self._checks_deletes
        )

    def _write(self, key: str, data: Data, sha256: str, condition: dict[str, str]) -> None:
        """Write under a condition; start over where somebody else writes at the same moment.

        Raises:
            ObjectChanged: The condition does not hold.
        """
        whole = self._put if len(data) <= self._settings.multipart_bytes else self._upload
        for tried in range(1, _CONFLICTS_MAX + 1):
            try:
                whole(key, data, sha256, condition)
                return
            except ClientError as error:
                match answer_of(error):
                    case Answer.CHANGED:
                        raise ObjectChanged(key, next(iter(condition.values()))) from error
                    case Answer.MISSING if "IfMatch" in condition:
                        raise ObjectChanged(key, condition["IfMatch"]) from error
                    case Answer.CONFLICT if tried < _CONFLICTS_MAX:
                        threading.Event().wait(_CONFLICT_WAIT_S * tried)
                    case _:
                        raise error_for(error, "write", key, self._settings.bucket) from error

    def _put(self, key: str, data: Data, sha256: str, condition: dict[str, str]) -> None:
        self._hook("put")
        self._call("put_object", key, Body=bytes(data), **_checksum(sha256), **condition)

    def _upload(self, key: str, data: Data, sha256: str, condition: dict[str, str]) -> None:
        """Write in parts (OS3).  The digest of the whole is for the reader to compare."""
        self._hook("upload")
        begun = self._call("create_multipart_upload", key, ChecksumAlgorithm="SHA256")
        upload = {"UploadId": begun["UploadId"]}
        try:
            parts = [self._part(key, *part, upload) for part in self._parts(data)]
            self._call(
                "complete_multipart_upload",
                key,
                MultipartUpload={"Parts": parts},
                **upload,
                **condition,
            )
        except BaseException:
            self._abort(key, upload)
            raise
        self._hook("completed")

    def _parts(self, data: Data) -> Iterator[tuple[int, bytes]]:
        view, size = memoryview(data), self._settings.part_bytes
        for index, start in enumerate(range(0, len(view), size)):
            yield index + 1, bytes(view[start : start + size])

    def _part(self, key: str, number: int, data: bytes, upload: dict[str, str]) -> dict[str, Any]:
        self._hook("part")
        answer = self._call(
            "upload_part", key, PartNumber=number, Body=data, ChecksumAlgorithm="SHA256", **upload
        )
        checksum = {name: answer[name] for name in ("ChecksumSHA256",) if name in answer}
        return {"PartNumber": number, "ETag": answer["ETag"], **checksum}

    def _abort(self, key: str, upload: dict[str, str]) -> None:
        try:
            self._call("abort_multipart_upload", key, **upload)
        except (ClientError, ObjectStoreUnavailable):
            # Why the upload ended is worth more than that it could not be aborted; `tidy` will.
            return

    def _ask(self, operation: str, key: str | None, **arguments: Any) -> Any:
        """Call, and word what the store answers.

        Raises:
            ObjectNotFound: There is no such object.
            ObjectChanged: The condition does not hold.
        """
        try:
            return self._call(operation, key, **arguments)
        except ClientError as error:
            where = key if key is not None else self._prefix
            raise error_for(error, operation, where, self._settings.bucket) from error

    def _call(self, operation: str, key: str | None, **arguments: Any) -> Any:
        if key is not None:
            arguments["Key"] = f"{self._prefix}{key}"
        method: Callable[..., Any] = getattr(self._connected(), operation)
        try:
            return method(Bucket=self._settings.bucket, **arguments)
        except BotoCoreError as error:
            raise ObjectStoreUnavailable(operation, str(key), str(error)) from error

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None or self._client_of != os.getpid():
                self._client, self._client_of = _connect(self._settings), os.getpid()
            return self._client


def _connect(settings: S3Settings) -> Any:
    config = Config(
        retries={"mode": "standard", "total_max_attempts": settings.attempts_max},
        connect_timeout=settings.connect_timeout_s,
        read_timeout=settings.read_timeout_s,
        request_checksum_calculation=settings.checksums,
        response_checksum_validation="when_required",
    )
    # Clients can be used by several threads at once, but not made.
    with _session_lock:
        return _session().client(
            "s3",
            endpoint_url=settings.endpoint_url,
            region_name=settings.region,
            config=config,
            **settings.client,
        )


@cache
def _session() -> Any:
    """Return our own session: it loads what it knows of S3 once, which takes long."""
    return boto3.session.Session()


def _checksum(sha256: str) -> dict[str, str]:
    # Both: there are stores that keep a checksum only if its algorithm is named.
    found = b64encode(bytes.fromhex(sha256)).decode()
    return {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": found}
