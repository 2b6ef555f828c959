"""Promise: with encryption, nothing an application says is readable outside its processes.

Method: a run with a secret in its input, its headers, a failure, a signal, a result, a large result
and a state, on a real server, worker and orchestrator; then every byte of the server's append-only
file, which has all that was ever written, the blobs and the logs are searched for it.
"""

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.stack import Stack
from tests.acceptance.waiting import eventually

pytestmark = pytest.mark.slow

SECRET = "4711-0815-s3cr3t"
WORD = "abracadabra-s3cr3t"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("sealed")
    with Stack(directory, app="tests.acceptance.sealed_app") as stack:
        keys = [f"{name}={base64.b64encode(os.urandom(32)).decode()}" for name in ("k2", "k1")]
        stack.environment |= {"ORCHESTRATOR_KEYS": ",".join(keys)}
        stack.orchestrator()
        stack.ready_worker()
        yield stack


def places_of(directory: Path, text: str) -> list[str]:
    """Return the files below a directory that have `text` in them."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return [path.name for path in files if text.encode() in path.read_bytes()]


def ran(stack: Stack, *words: str) -> str:
    """Run a command of the command line that has to succeed; return what it printed."""
    done = stack.command(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_nothing_is_readable_in_redis_in_blobs_or_in_logs_and_all_is_with_the_key(
    stack: Stack,
) -> None:
    ran(stack, "start", "pay", "--id", "pay-1", "--input", f'"{SECRET}"')
    handle = stack.orc.run("pay-1")
    eventually(lambda: handle.describe().seq >= 5, "the card is charged")
    ran(stack, "signal", "pay-1", "word", f'"{WORD}"')
    eventually(lambda: handle.describe().is_closed, "it ends")
    shown = ran(stack, "show", "pay-1")
    assert f"charged {SECRET} {WORD}" in shown
    assert "verified" in shown
    assert places_of(stack.directory / "server", "pay-1"), "this is where it would be found"
    assert places_of(stack.directory, SECRET) == []
    assert places_of(stack.directory, WORD) == []
    blobs = [path for path in (stack.directory / "blobs").rglob("*") if path.is_file()]
    assert blobs, "the receipt lies beside the history"


def test_who_has_no_key_verifies_the_history_and_reads_its_structure(stack: Stack) -> None:
    handle = stack.orc.run("pay-1")
    assert handle.verify()
    assert handle.history()[0].type == "RunStarted"
    assert SECRET not in str(handle.history())


def test_rotated_and_then_shredded(stack: Stack) -> None:
    first, second = stack.environment["ORCHESTRATOR_KEYS"].split(",")
    stack.environment["ORCHESTRATOR_KEYS"] = f"{second},{first}"
    assert ran(stack, "rotate-keys").strip() == "2 of 2 data keys wrapped anew"
    stack.environment["ORCHESTRATOR_KEYS"] = second
    assert SECRET in ran(stack, "show", "pay-1")
    assert "shredded, 1 blobs deleted" in ran(stack, "shred", "pay-1", "--yes")
    shown = ran(stack, "show", "pay-1")
    assert SECRET not in shown
    assert "verified" in shown
    assert "shredded before" in ran(stack, "shred", "pay-1", "--yes")


def test_orchestrator_without_the_keys_does_not_start_and_says_why(stack: Stack) -> None:
    wrong = f"k9={base64.b64encode(os.urandom(32)).decode()}"
    stranger = stack.orchestrator(ORCHESTRATOR_KEYS=wrong)
    eventually(lambda: not stranger.is_running, "it gives up")
    assert "this process has no master key 'k1'" in stranger.log()
