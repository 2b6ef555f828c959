"""The tour shows what it claims, says so when it does not, and leaves nothing behind.

Every tour here is a real one: its own Valkey, workers, orchestrators, and kills.
"""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Never

import pytest
from click.testing import CliRunner
from redis import Redis

from orchestrator.cli import demo
from orchestrator.cli.main import main
from sagas.demo import guide
from sagas.demo.narrator import Narrator
from tests.architecture.tree import ROOT

#: In the environment of a tour and so of all that it starts.
MARK = "TOUR_UNDER_TEST"
#: After this a tour hangs; it takes forty seconds on two idle cores.
SECONDS_MAX = 150
#: Long enough for what is ending, on a machine that is busy.
GONE_SECONDS_MAX = 30
PYTHON_TOUR = (sys.executable, "-m", "sagas.demo")
COMMAND_TOUR = (sys.executable, "-m", "orchestrator.cli.main", "demo")
#: Takes the money of every order a second time, as a task without idempotency would.
TAKE_TWICE = """
CREATE TRIGGER take_twice AFTER INSERT ON payments BEGIN
  INSERT INTO payments (id, effect_key, order_id, captured_cents, refunded_cents)
  VALUES (new.id, new.effect_key, new.order_id, new.captured_cents, 0);
END
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.timeout(SECONDS_MAX + GONE_SECONDS_MAX),
]


@contextmanager
def tour_in(
    directory: Path, *words: str, program: tuple[str, ...] = PYTHON_TOUR
) -> Iterator[subprocess.Popen[str]]:
    """Give a tour with its data below `directory`; kill it where the test leaves it running."""
    environment = {**os.environ, MARK: str(directory), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*program, *words],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as tour:
        try:
            yield tour
        finally:
            tour.kill()


def read_until(tour: subprocess.Popen[str], text: str) -> list[str]:
    """Return the lines up to the one that has `text`."""
    assert tour.stdout is not None
    lines = []
    for line in tour.stdout:
        lines.append(line.rstrip("\n"))
        if text in line:
            return lines
    pytest.fail(f"the tour ended without {text!r}:\n" + "\n".join(lines))


def left_over(directory: Path) -> list[str]:
    """Return the command lines of processes that the tour in `directory` has started."""
    mark = f"{MARK}={directory}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue  # it has gone meanwhile, or is somebody else's
    return found


def wait_until_gone(directory: Path) -> None:
    deadline = time.monotonic() + GONE_SECONDS_MAX
    while left := left_over(directory):
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.05)


def ask(directory: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(directory / ".orchestrator/demo/shop.db")) as db:
        return list(db.execute(query))


def test_tour_over_the_data_of_a_broken_off_one_holds_and_its_histories_can_be_read(
    tmp_path: Path,
) -> None:
    with tour_in(tmp_path) as tour:
        read_until(tour, "✓")
        assert left_over(tmp_path), "it runs something, or the end of this test says nothing"
        tour.send_signal(signal.SIGINT)
        rest, _ = tour.communicate(timeout=GONE_SECONDS_MAX)
    assert tour.returncode == 128 + signal.SIGINT, rest
    assert "interrupted" in rest
    assert "Traceback" not in rest
    assert not left_over(tmp_path)

    with tour_in(tmp_path, "--keep", program=COMMAND_TOUR) as tour:
        said = read_until(tour, "claims ")
        assert "claims held" in said[-1], "\n".join(said)
        port, key = next(line.split()[3::2][:2] for line in said if "XRANGE" in line)
        with closing(Redis(port=int(port))) as client:
            assert client.xrange(key.strip("'"))
        tour.send_signal(signal.SIGINT)
        tour.communicate(timeout=GONE_SECONDS_MAX)
    assert tour.returncode == 0
    assert not left_over(tmp_path)
    text = "\n".join(said)
    assert "✗" not in text
    assert "\x1b" not in text, "plain where nobody sees colours"
    for proof in ("attempt 1 lost, attempt 2 completed", "mid-compensation", "redis-cli XADD"):
        assert proof in text
    for proof in ("2 chunks lost their worker", "no attempt was lost", "SHA-256 of the weights"):
        assert f"✓ {proof}" in text or f": {proof}" in text, proof
    assert "workflow lineage" in text
    (picture,) = (tmp_path / ".orchestrator/demo").glob("loss-*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    name = key.split(":")[3].removesuffix("-orchestrator-killed")
    kept = f"""SELECT captured_cents - refunded_cents FROM payments
        WHERE order_id LIKE '{name}-%' ORDER BY number"""
    assert ask(tmp_path, kept) == [(120_00,), (9000_00,), (0,), (330_00,), (0,)]


def test_ctrl_c_between_the_last_line_of_a_kept_tour_and_its_wait_is_its_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tell_and_interrupt(narrator: Narrator, took_s: float) -> Never:
        narrator.heading("All claims held")
        raise KeyboardInterrupt

    monkeypatch.setattr(guide, "Stage", nullcontext)
    monkeypatch.setattr(guide, "_give", lambda *_, **__: None)
    monkeypatch.setattr(guide, "_sum_up", tell_and_interrupt)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert guide.main([guide.KEEP]) == guide.EXIT_HELD
    said = capsys.readouterr().out
    assert "stopping" in said
    assert "interrupted" not in said


def test_tour_says_what_did_not_hold_and_fails(tmp_path: Path) -> None:
    with tour_in(tmp_path) as tour:
        read_until(tour, "✓")
        tour.send_signal(signal.SIGTERM)
        tour.communicate(timeout=GONE_SECONDS_MAX)
    assert tour.returncode == 128 + signal.SIGTERM
    with closing(sqlite3.connect(tmp_path / ".orchestrator/demo/shop.db")) as db:
        db.execute(TAKE_TWICE)

    with tour_in(tmp_path) as tour:
        said, _ = tour.communicate(timeout=SECONDS_MAX)
    assert tour.returncode == 1, said
    assert "✗ SQL: 120.00 taken, once" in said
    assert "expected 1 payments: 120.00 paid, 0.00 given back, found 2 payments: 240.00" in said
    assert "claims did NOT hold" in said
    assert "✓ SQL: 9 on the shelf" in said, "what does hold is said as well"
    assert not left_over(tmp_path)


def test_nothing_outlives_a_tour_that_is_killed(tmp_path: Path) -> None:
    with tour_in(tmp_path) as tour:
        read_until(tour, "✓")
        assert len(left_over(tmp_path)) > 4, "Valkey, a worker with two children, an orchestrator"
        tour.kill()
        tour.wait()
        wait_until_gone(tmp_path)


@pytest.mark.parametrize("has_sagas", [False, True])
def test_command_without_a_checkout_says_where_the_tour_is(
    monkeypatch: pytest.MonkeyPatch, *, has_sagas: bool
) -> None:
    def find(name: str) -> None:
        if not has_sagas:
            raise ModuleNotFoundError("No module named 'sagas'", name="sagas")

    monkeypatch.setattr(demo, "find_spec", find)
    result = CliRunner().invoke(main, ["demo"])
    assert result.exit_code == 2
    assert "no checkout of it is here" in result.output


def test_command_that_lacks_a_package_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> object:
        raise ModuleNotFoundError("No module named 'sqlalchemy.orm'", name="sqlalchemy.orm")

    monkeypatch.setattr(demo, "import_module", load)
    result = CliRunner().invoke(main, ["demo"])
    assert result.exit_code == 2
    assert "sqlalchemy" in result.output
    assert "pip install" in result.output
