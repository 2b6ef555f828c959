"""Promise: every store creates once, replaces what it was told to, and answers in our words."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.training.errors import (
    ObjectChanged,
    ObjectNotFound,
    ObjectStoreUnavailable,
    ObjectStoreUnfit,
)
from orchestrator.training.objects import Creation, ObjectStore, Put, put_whole
from orchestrator.training.objects_directory import DirectoryObjects
from orchestrator.training.stores import open_objects
from tests.training.checkpoints_kit import HOUR_MS, all_keys, memory, place, put
from tests.training.s3_servers import CREDENTIALS, S3Server, ministack_server, moto_server

__all__ = ["ministack_server", "moto_server"]

MIB = 1 << 20


@pytest.fixture(params=["memory", "directory", "moto", "ministack"])
def objects(request: pytest.FixtureRequest) -> ObjectStore:
    """An empty store of every kind."""
    if request.param == "memory":
        return memory()[0]
    opened = place(request.param, request).open()
    opened.probe()
    return opened


def test_what_was_created_first_stays(objects: ObjectStore) -> None:
    assert put(objects, "a/b", b"first") is Creation.CREATED
    assert put(objects, "a/b", b"second") is Creation.EXISTS
    assert put(objects, "a/b", b"first") is Creation.EXISTS
    assert objects.read("a/b") == b"first"
    assert objects.stat("a/b").bytes == 5


def test_of_eight_who_create_at_once_one_wins(objects: ObjectStore) -> None:
    together = threading.Barrier(8)

    def create(who: int) -> tuple[Creation, bytes]:
        data = bytes([who]) * 1000
        together.wait()
        return put(objects, "race", data), data

    with ThreadPoolExecutor(8) as pool:
        came = list(pool.map(create, range(8)))
    won = [data for creation, data in came if creation is Creation.CREATED]
    assert won == [objects.read("race")]


def test_an_empty_object_is_an_object(objects: ObjectStore) -> None:
    put(objects, "empty", b"")
    assert objects.read("empty") == b""
    assert [(one.key, one.bytes) for one in objects.list("")] == [("empty", 0)]


def test_what_is_not_there_is_not_found(objects: ObjectStore) -> None:
    for look in (objects.read, objects.stat):
        with pytest.raises(ObjectNotFound, match="nothing is stored under no/thing"):
            look("no/thing")
    assert list(objects.list("no/")) == []
    objects.delete("no/thing", expected="any")
    with pytest.raises(ObjectChanged):
        objects.replace("no/thing", b"x", sha256="0" * 64, expected="any")


def test_only_the_version_that_was_seen_is_replaced_or_deleted(objects: ObjectStore) -> None:
    put(objects, "k", b"one")
    old = objects.stat("k").version
    objects.replace("k", b"two!", sha256=hashlib.sha256(b"two!").hexdigest(), expected=old)
    assert objects.read("k") == b"two!"
    with pytest.raises(ObjectChanged):
        objects.replace("k", b"three", sha256="0" * 64, expected=old)
    with pytest.raises(ObjectChanged, match="look at it again"):
        objects.delete("k", expected=old)
    assert objects.read("k") == b"two!"
    objects.delete("k", expected=objects.stat("k").version)
    assert list(all_keys(objects)) == []


def test_a_listing_has_all_below_a_prefix_and_no_more(objects: ObjectStore) -> None:
    for key in ("r/b/2", "r/b/1", "r/a", "rr/b", "r@1/b"):
        put(objects, key, key.encode())
    assert [one.key for one in objects.list("r/b/")] == ["r/b/1", "r/b/2"]
    assert [one.key for one in objects.list("r/")] == ["r/a", "r/b/1", "r/b/2"]
    assert sorted(all_keys(objects)) == ["r/a", "r/b/1", "r/b/2", "r@1/b", "rr/b"]


def test_time_is_that_of_the_store(objects: ObjectStore) -> None:
    put(objects, "k", b"now")
    (listed,) = objects.list("k")
    stat = objects.stat("k")
    # Stores of S3 count whole seconds, in one of the two answers or in both.
    assert abs(objects.now_ms() - stat.modified_at_ms) < 30_000
    assert abs(listed.modified_at_ms - stat.modified_at_ms) < 1_000


def test_probing_leaves_nothing_behind(objects: ObjectStore) -> None:
    objects.probe()
    assert list(all_keys(objects)) == []


def test_damage_is_set_aside_and_mended(objects: ObjectStore) -> None:
    put(objects, "k", b"damaged")
    sha256 = hashlib.sha256(b"good").hexdigest()
    assert put_whole(objects, "k", b"good", sha256, "bad") is Put.MENDED
    assert objects.read("k") == b"good"
    assert objects.read(f"bad/{hashlib.sha256(b'damaged').hexdigest()}") == b"damaged"
    assert put_whole(objects, "k", b"good", sha256, "bad") is Put.FOUND


@pytest.mark.parametrize("kind", ["moto", "ministack"])
def test_what_is_long_goes_up_in_parts_and_is_created_once(
    kind: str, request: pytest.FixtureRequest
) -> None:
    where = place(kind, request)
    points: list[str] = []
    objects = where.open(points.append, multipart_bytes=6 * MIB, part_bytes=5 * MIB)
    objects.probe()
    del points[:]
    data = bytes(range(256)) * (12 * MIB // 256) + b"rest"
    sha256 = hashlib.sha256(data).hexdigest()
    assert put_whole(objects, "long", memoryview(data), sha256, "bad") is Put.WRITTEN
    assert points == ["upload", "part", "part", "part", "completed"]
    assert objects.read("long") == data
    assert put(objects, "long", data[::-1]) is Creation.EXISTS
    assert put_whole(objects, "long", data, sha256, "bad") is Put.FOUND
    where.damage("long", lambda whole: whole[:-1] + b"!")
    assert put_whole(objects, "long", data, sha256, "bad") is Put.MENDED
    assert where.server is not None
    assert "Uploads" not in where.server.client().list_multipart_uploads(Bucket=where.where)


def test_uploads_of_the_dead_are_tidied_away(ministack_server: S3Server) -> None:
    # Not on moto, which says of every upload that it began in 2010.
    bucket, client = ministack_server.bucket(), ministack_server.client()
    objects = ministack_server.objects(bucket)
    client.create_multipart_upload(Bucket=bucket, Key="left")
    assert objects.tidy(objects.now_ms() - HOUR_MS) == 0
    assert objects.tidy(objects.now_ms() + HOUR_MS) == 1
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


def test_files_of_the_dead_are_tidied_away_and_never_listed(tmp_path: Path) -> None:
    objects = DirectoryObjects(tmp_path)
    put(objects, "a/b", b"x")
    (tmp_path / "a" / ".tmp-0123").write_bytes(b"half")
    assert list(all_keys(objects)) == ["a/b"]
    assert objects.tidy(objects.now_ms() - HOUR_MS) == 0
    assert objects.tidy(objects.now_ms() + HOUR_MS) == 1
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b"]


@pytest.mark.parametrize("key", ["../out", "a/../../out", "/etc/passwd", ".lock", "a//b", "a/\0"])
def test_no_key_leads_out_of_a_directory(tmp_path: Path, key: str) -> None:
    objects = DirectoryObjects(tmp_path / "in")
    (tmp_path / "out").write_bytes(b"secret")
    with pytest.raises(ObjectNotFound):
        objects.read(key)
    with pytest.raises(ObjectNotFound):
        put(objects, key, b"x")


def test_a_directory_that_cannot_be_one_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ObjectStoreUnfit, match=r"Not a directory.*may write"):
        open_objects(str(tmp_path / "file" / "objects"))


def test_a_full_disk_is_no_answer(tmp_path: Path) -> None:
    def full(point: str) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(ObjectStoreUnavailable, match="No space left"):
        put(DirectoryObjects(tmp_path, hook=full), "k", b"x")
    assert list(all_keys(DirectoryObjects(tmp_path))) == []
    assert [path.name for path in tmp_path.iterdir()] == []


def test_a_bucket_that_is_not_there_is_refused_in_words(moto_server: S3Server) -> None:
    with pytest.raises(ObjectStoreUnfit, match=r"bucket nowhere.*NoSuchBucket.*look at its name"):
        moto_server.objects("nowhere").probe()


def test_a_server_that_is_gone_is_no_answer() -> None:
    gone = S3Server("gone", "http://127.0.0.1:9")
    objects = gone.objects("bucket", attempts_max=1, connect_timeout_s=1)
    with pytest.raises(ObjectStoreUnavailable, match="try again"):
        objects.probe()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ftp://host/x", "unknown kind of address"),
        ("s3:///x", "does not fit"),
        ("s3://b/x?endpont=y", "unknown options endpont"),
        ("s3://b?checksums=never", "does not fit"),
        ("", "unknown kind of address"),
    ],
)
def test_an_address_that_cannot_be_is_refused_in_words(address: str, said: str) -> None:
    with pytest.raises(ObjectStoreUnfit, match=said):
        open_objects(address)


def test_stores_are_opened_by_their_address(
    tmp_path: Path, ministack_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in (str(tmp_path / "a b"), f"file://{tmp_path}/a%20b"):
        objects, found = open_objects(address)
        assert (found.checks_sha256, str(tmp_path / "a b") in found.store) == (False, True)
    put(objects, "k", b"x")
    assert (tmp_path / "a b" / "k").read_bytes() == b"x"
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name.upper(), value)
    bucket = ministack_server.bucket()
    query = f"endpoint={ministack_server.url}&region=us-east-1&checksums=when_required"
    objects, found = open_objects(f"s3://{bucket}/deep/prefix?{query}")
    assert found.checks_sha256
    put(objects, "k", b"x")
    listed = ministack_server.client().list_objects_v2(Bucket=bucket)["Contents"]
    assert [one["Key"] for one in listed] == ["deep/prefix/k"]
