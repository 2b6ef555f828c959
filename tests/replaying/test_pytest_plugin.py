"""Promise (PP1): a project gets a test per history by two settings; any other is left alone."""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT
from tests.histories.record import HERE

APP = """
from celery import Celery
from orchestrator import Orchestrator, workflow

app = Celery("shop", broker="redis://127.0.0.1:1/0", set_as_current=False)
orc = Orchestrator(app)

@orc.workflow(name="zoo-large")
async def large() -> int:
    value = await workflow.step("zoo.large")
    await workflow.step("{second}", len(value))
    return len(value)
"""
SETTINGS = """
[pytest]
addopts = --strict-config --strict-markers -p no:cacheprovider
filterwarnings = error
orchestrator_app = shop
orchestrator_histories = kept
"""
PLUGIN = "orchestrator-replay"

pytestmark = pytest.mark.skipif(
    PLUGIN not in {point.name for point in entry_points(group="pytest11")},
    reason="the package is not installed, so that pytest does not find its plugin",
)

Run = subprocess.CompletedProcess[str]


def project(tmp_path: Path, *, second: str = "zoo.echo", settings: str = SETTINGS) -> Path:
    """Make a project with one workflow, and one history of it."""
    (tmp_path / "shop.py").write_text(APP.replace("{second}", second))
    (tmp_path / "pytest.ini").write_text(settings)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "large.jsonl").write_bytes((HERE / "zoo-large.jsonl").read_bytes())
    (tmp_path / "other.jsonl").write_text('{"some": "other file"}')
    return tmp_path


def run(folder: Path, *words: str) -> Run:
    """Run pytest in a process of its own; it finds the plugin as it finds every other."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "COLUMNS": "300"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_history_is_a_test(tmp_path: Path) -> None:
    found = run(project(tmp_path), "-v")
    assert "kept/large.jsonl::replay PASSED" in found.stdout
    assert "1 passed" in found.stdout
    assert found.returncode == 0, found.stdout + found.stderr


def test_a_mismatch_fails_with_both_sides_and_no_traceback(tmp_path: Path) -> None:
    found = run(project(tmp_path, second="zoo.shout"))
    assert found.returncode == 1
    assert "- history has   StepScheduled(step=2, task='zoo.echo'" in found.stdout
    assert "+ code asks for StepScheduled(step=2, task='zoo.shout'" in found.stdout
    assert "at shop.py:11" in found.stdout
    assert "Traceback" not in found.stdout
    assert "replayer.py" not in found.stdout


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("replay_histories()", None),
        ("assert len(replay_histories('kept', app='shop:app', jobs=2).results) == 1", None),
        ("replay_histories('nowhere')", "nowhere: does not exist"),
        ("replay_histories(app='nothing')", "Celery app 'nothing': found No module named"),
    ],
)
def test_the_fixture_does_the_same_in_a_test_of_ones_own(
    tmp_path: Path, text: str, says: str | None
) -> None:
    folder = project(tmp_path)
    (folder / "test_mine.py").write_text(f"def test_it(replay_histories):\n    {text}\n")
    found = run(folder, "test_mine.py")
    assert found.returncode == (1 if says else 0), found.stdout
    assert says is None or says in found.stdout


def test_the_fixture_fails_with_every_history_that_does_not_fit(tmp_path: Path) -> None:
    folder = project(tmp_path, second="zoo.shout")
    (folder / "test_mine.py").write_text("def test_it(replay_histories): replay_histories()\n")
    found = run(folder, "test_mine.py")
    assert "1 of 1 histories do not fit the code" in found.stdout
    assert "event 4 of 6" in found.stdout


def test_a_setting_that_is_missing_is_one_sentence(tmp_path: Path) -> None:
    settings = SETTINGS.replace("orchestrator_app = shop\n", "")
    found = run(project(tmp_path, settings=settings))
    assert (
        "pytest setting orchestrator_app: found nothing; the Celery app is wanted" in found.stdout
    )


def test_a_project_that_uses_neither_is_left_alone(tmp_path: Path) -> None:
    folder = project(tmp_path, settings="[pytest]\naddopts = --strict-config\n")
    (folder / "test_mine.py").write_text(
        "import sys\n"
        "def test_it():\n"
        "    loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "    assert not loaded & {'celery', 'kombu', 'redis', 'pydantic', 'click', 'numpy'}\n"
        "    assert 'orchestrator.core' not in sys.modules\n"
    )
    found = run(folder)
    assert "1 passed" in found.stdout, found.stdout
    off = run(folder, "-p", f"no:{PLUGIN}")
    assert "1 passed" in off.stdout, off.stdout
