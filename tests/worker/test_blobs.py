"""Promise: a large value is kept by its content, whole or not at all, and never read damaged."""

from pathlib import Path

import pytest

from orchestrator import blobs as module
from orchestrator.blobs import DirectoryBlobs
from orchestrator.core.blobs import BlobRef
from orchestrator.core.errors import PayloadTooLarge, StoreUnavailable
from orchestrator.core.values import Json, digest

VALUE: Json = {"weights": [1.5, None, "é"]}


def path_of(root: Path, ref: BlobRef) -> Path:
    return root / ref.sha256[:2] / ref.sha256


def test_value_comes_back_and_its_reference_is_its_digest(tmp_path: Path) -> None:
    store = DirectoryBlobs(tmp_path / "made" / "later")
    ref = store.put(VALUE)
    assert ref.sha256 == digest(VALUE)
    assert store.get(ref) == VALUE
    assert DirectoryBlobs(tmp_path / "made" / "later").get(ref) == VALUE


def test_same_value_again_writes_nothing(tmp_path: Path) -> None:
    store = DirectoryBlobs(tmp_path)
    ref = store.put(VALUE)
    before = path_of(tmp_path, ref).stat()
    assert store.put(VALUE) == ref
    after = path_of(tmp_path, ref).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("damage", [b"", b'{"weights":[1.5,null]}', b"\x00"])
def test_damaged_file_is_never_a_value_and_is_mended_by_the_next_put(
    tmp_path: Path, damage: bytes
) -> None:
    store = DirectoryBlobs(tmp_path)
    ref = store.put(VALUE)
    path_of(tmp_path, ref).write_bytes(damage)
    with pytest.raises(StoreUnavailable, match="damaged"):
        store.get(ref)
    store.put(VALUE)
    assert store.get(ref) == VALUE


def test_missing_value_asks_whether_the_directory_is_shared(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="let all processes share the directory"):
        DirectoryBlobs(tmp_path).get(BlobRef(sha256="0" * 64, size=1))


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64])
def test_reference_that_is_no_digest_reads_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreUnavailable, match="names no SHA-256"):
        DirectoryBlobs(tmp_path).get(BlobRef(sha256=name, size=1))


def test_value_beyond_the_bound_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOB_BYTES_MAX", 10)
    with pytest.raises(PayloadTooLarge):
        DirectoryBlobs(tmp_path).put("x" * 20)
    assert list(tmp_path.iterdir()) == []


def test_write_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("orchestrator.blobs.os.replace", fail)
    with pytest.raises(StoreUnavailable, match="No space left"):
        DirectoryBlobs(tmp_path).put(VALUE)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="writing blob"):
        DirectoryBlobs(tmp_path / "file").put(VALUE)
