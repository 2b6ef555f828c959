"""Promise: a worker killed with -9 while it trains costs the steps since the last save, no bit."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.trainers_kit import STEPS, branch

#: An initial save, whole epochs, and a cut in the middle of one.
STOPS = [0, STEPS, 2 * STEPS - 10, 2 * STEPS, 3 * STEPS]


def child(folder: Path, die_after: int) -> subprocess.CompletedProcess[str]:
    """Train in another process until it ends or kills itself."""
    command = [sys.executable, "-m", "tests.training.trainers_child", str(folder), str(die_after)]
    return subprocess.run([*command, *map(str, STOPS)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def uninterrupted() -> str:
    """Digest of the same epochs in one piece."""
    return branch().through([3 * STEPS]).digest()


@pytest.mark.slow
@pytest.mark.parametrize(
    "die_after", [1, STEPS + 1, 70, 3 * STEPS], ids=["first", "second", "mid", "last"]
)
def test_killed_once_it_ends_with_the_same_bits(
    tmp_path: Path, uninterrupted: str, die_after: int
) -> None:
    assert child(tmp_path, die_after).returncode == -signal.SIGKILL
    ended = child(tmp_path, 0)
    assert ended.stdout.strip() == uninterrupted, ended.stderr


@pytest.mark.long
@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_bits(
    tmp_path: Path, uninterrupted: str
) -> None:
    # In turn: before the first save but one, behind it, before the next, behind it, and so on.
    lives = [child(tmp_path, die_after).returncode for die_after in (20, 46, 30, 40, 13, 44)]
    assert lives == [-signal.SIGKILL] * len(lives)
    ended = child(tmp_path, 0)
    assert ended.stdout.strip() == uninterrupted, ended.stderr
