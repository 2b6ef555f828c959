"""Promise: a store that would lose a checkpoint is refused before a run depends on it, in words."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from orchestrator.training.errors import ObjectChanged, ObjectStoreUnfit
from orchestrator.training.objects import Creation
from orchestrator.training.objects_memory import MemoryObjects
from orchestrator.training.stores import open_objects
from orchestrator.training.tensors import Data
from tests.training.checkpoints_kit import all_keys
from tests.training.checkpoints_overwriter import overwriter
from tests.training.s3_servers import CREDENTIALS, REGION, S3Server, answers, free_port

SUCH_AS = "such as Amazon S3, MinIO, Cloudflare R2 or a directory"


class Overwriting(MemoryObjects):
    """Takes the condition of `create`, and overwrites."""

    def create(self, key: str, data: Data, sha256: str) -> Creation:
        """Forget what was there."""
        super().delete(key, expected=self.stat(key).version if key in all_keys(self) else "")
        return super().create(key, data, sha256)


class Lying(MemoryObjects):
    """Keeps what was first, and says that it was replaced."""

    def create(self, key: str, data: Data, sha256: str) -> Creation:
        """Say that it was created."""
        super().create(key, data, sha256)
        return Creation.CREATED


class Careless(MemoryObjects):
    """Replaces whatever version there is."""

    def replace(self, key: str, data: Data, *, sha256: str, expected: str) -> None:
        """Take the version that there is."""
        super().replace(key, data, sha256=sha256, expected=self.stat(key).version)


class Deaf(MemoryObjects):
    """Says that it has replaced, and has not, if the version was another."""

    def replace(self, key: str, data: Data, *, sha256: str, expected: str) -> None:
        """Swallow the refusal."""
        try:
            super().replace(key, data, sha256=sha256, expected=expected)
        except ObjectChanged:
            return


class Inert(MemoryObjects):
    """Replaces nothing, and says that it did."""

    def replace(self, key: str, data: Data, *, sha256: str, expected: str) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    ("store", "said"),
    [
        (Overwriting, "silently overwritten by a create that must not"),
        (Lying, "answered as if it had been the first"),
        (Careless, "silently overwritten that had changed meanwhile"),
        (Deaf, "a version that is gone answered as if it had happened"),
        (Inert, "that was replaced unchanged"),
    ],
)
def test_what_a_store_does_not_keep_is_said(store: type[MemoryObjects], said: str) -> None:
    objects = store()
    with pytest.raises(ObjectStoreUnfit, match=said) as raised:
        objects.probe()
    assert SUCH_AS in str(raised.value)
    assert list(all_keys(objects)) == []


def test_a_server_that_overwrites_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name.upper(), value)
    with overwriter() as (server, held):
        # Were it not probed: it says of both that they were created, and holds the second.
        objects = server.objects("bucket")
        for data in (b"first", b"second"):
            created = objects.create("k", data, hashlib.sha256(data).hexdigest())
            assert created is Creation.CREATED
        assert held.pop("/bucket/k") == b"second"
        with pytest.raises(ObjectStoreUnfit) as raised:
            open_objects(f"s3://bucket/runs?endpoint={server.url}&region={REGION}")
        assert held == {}
    assert str(raised.value) == (
        f"bucket bucket at {server.url} cannot keep checkpoints: found an object silently "
        f"overwritten by a create that must not overwrite; a store that keeps what was created "
        f"first (If-None-Match, If-Match), {SUCH_AS}"
    )


def test_rclone_which_overwrites_is_refused(tmp_path: Path) -> None:
    rclone = shutil.which("rclone")
    if rclone is None:
        pytest.skip("rclone is not installed")
    (tmp_path / "bucket").mkdir()
    port = free_port()
    keys = ",".join(CREDENTIALS.values())
    command = [rclone, "serve", "s3", "--auth-key", keys, "--addr", f"127.0.0.1:{port}"]
    process = subprocess.Popen(
        [*command, str(tmp_path)], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        if not answers(process, port):
            pytest.skip("this rclone has no S3 server")
        with pytest.raises(ObjectStoreUnfit, match="silently overwritten"):
            S3Server("rclone", f"http://127.0.0.1:{port}").objects("bucket").probe()
    finally:
        process.kill()
        process.wait()
