"""``workflow export`` and ``workflow replay``: files for everybody, exit codes for pipelines."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery.bin.base import CLIContext
from click.testing import CliRunner

from orchestrator import workflow
from orchestrator.app import Orchestrator
from orchestrator.cli.runs import workflow as command
from orchestrator.client.history_file import read_history_file
from orchestrator.core.events import StepScheduled
from orchestrator.store.memory import MemoryStore
from tests.cli import stack
from tests.cli.conftest import Typed
from tests.client.runs import Recorder
from tests.histories import zoo
from tests.histories.record import HERE

Typist = Callable[..., Typed]
LARGE = str(HERE / "zoo-large.jsonl")


async def fitting() -> None:
    await workflow.signal("go")


@pytest.fixture
def typed_zoo() -> Typist:
    context = CLIContext(app=zoo.app, no_color=True, workdir=None)

    def run(*words: str) -> Typed:
        return Typed(CliRunner().invoke(command, list(words), obj=context))

    return run


@pytest.fixture
def open_runs(orc: Orchestrator, store: MemoryStore, recorder: Recorder) -> None:
    """Two open runs, one of which ordered what the code does not order; one that has not begun."""
    orc.workflow(fitting)
    for id in ("fits", "differs", "new"):
        body: dict[str, Any] = {"workflow": "fitting", "args": [], "kwargs": {}}
        store.start(id, request_id=id, body=body)
    for id in ("fits", "differs"):
        recorder.started(id, workflow="fitting")
    step = StepScheduled(at_ms=1_000, step=1, task="other", args_digest="0" * 64)
    recorder.record("differs", step, type="fitting")
    recorder.record("fits", type="fitting")


def test_a_history_is_not_written_to_a_terminal(
    open_runs: None, typed: Typist, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.cli.replays._is_terminal", lambda: True)
    done = typed("export", "fits")
    assert (done.code, done.out) == (2, "")
    assert "name a file with -o" in done.error


def test_a_run_is_written_to_a_file_a_folder_or_standard_output(
    open_runs: None, typed: Typist, tmp_path: Path
) -> None:
    file = tmp_path / "one.jsonl"
    assert typed("export", "fits", "-o", str(file)).out.strip() == str(file)
    assert typed("export", "fits", "-o", str(tmp_path)).out.strip() == str(
        tmp_path / "fits.1.jsonl"
    )
    printed = typed("export", "fits", "--run", "1")
    assert printed.code == 0
    # The header tells when it was exported.
    assert printed.out.splitlines()[1:] == file.read_text().splitlines()[1:]
    assert read_history_file(file).header.workflow == "fitting"


def test_open_runs_are_written_to_a_folder(open_runs: None, typed: Typist, tmp_path: Path) -> None:
    done = typed("export", "--open", "--type", "fitting", "-o", str(tmp_path / "new"))
    assert done.code == 0
    assert "2 histories in" in done.out
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["differs.1.jsonl", "fits.1.jsonl"]


def test_replay_says_which_event_differs_and_ends_with_one(
    open_runs: None, typed: Typist, tmp_path: Path
) -> None:
    typed("export", "--open", "-o", str(tmp_path))
    for words in ([str(tmp_path)], ["--open"], ["fits", "differs", "--jobs", "2"]):
        found = typed("replay", *words)
        assert found.code == 1, words
        assert "1 of 2 fit" in found.out
        assert "- history has   StepScheduled(step=1, task='other'" in found.out
        assert "+ code asks for nothing more" in found.out
        assert "test_replays.py:" in found.out
        assert ("orchestrator-replay-" in found.out) is False, "a file that is gone"
    assert typed("replay", "fits").code == 0


def test_fail_fast_stops(open_runs: None, typed: Typist) -> None:
    found = typed("replay", "differs", "fits", "--fail-fast", "--jobs", "1")
    assert (found.code, "0 of 1 fit; stopped at the first" in found.out) == (1, True)


def test_json_has_both_sides(open_runs: None, typed: Typist) -> None:
    found = typed("replay", "differs", "fits", "--json")
    assert found.code == 1
    data = json.loads(found.out)
    assert (data["fits"], data["is_cut_short"]) == (False, False)
    assert [each["status"] for each in data["results"]] == ["mismatch", "fits"]
    assert data["results"][0]["mismatch"]["seq"] == 2
    assert "task='other'" in data["results"][0]["mismatch"]["recorded"]


def test_files_are_replayed_without_a_server(typed_zoo: Typist) -> None:
    zoos = sorted(str(path) for path in HERE.glob("zoo-*.jsonl"))
    found = typed_zoo("replay", *zoos)
    assert found.code == 0, found.out
    assert f"{len(zoos)} of {len(zoos)} fit" in found.out


def test_no_open_run_is_nothing_to_be_afraid_of(typed: Typist) -> None:
    found = typed("replay", "--open")
    assert (found.code, found.out) == (0, "no open run has a history\n")


def test_a_damaged_file_ends_with_one_and_names_its_line(typed: Typist, tmp_path: Path) -> None:
    path = tmp_path / "cut.jsonl"
    path.write_bytes(Path(LARGE).read_bytes()[:-5])
    found = typed("replay", str(path))
    assert found.code == 1
    assert "cut.jsonl, line 8: is not JSON" in found.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["replay"], "by --open"),
        (["replay", "--open", LARGE], "by --open"),
        (["replay", LARGE, "--type", "x"], "--type goes with --open"),
        (["replay", LARGE, LARGE, "--run", "1"], "--run goes with one ID"),
        (["replay", "no-such.jsonl"], "no such file or folder"),
        (["replay", "/nowhere/"], "no such file or folder"),
        (["export"], "--open"),
        (["export", "w", "--open"], "--open"),
        (["export", "--open"], "-o FOLDER"),
        (["export", "--open", "--run", "1", "-o", "x"], "--run goes with an ID"),
        (["export", "w", "--type", "x"], "--type goes with --open"),
    ],
)
def test_a_wrong_command_ends_with_two(typed: Typist, words: list[str], says: str) -> None:
    found = typed(*words)
    assert found.code == 2
    assert says in found.result.stderr


def test_a_run_that_does_not_exist_ends_with_one(typed: Typist) -> None:
    assert typed("replay", "nobody").code == 1
    assert typed("export", "nobody").code == 1


def test_a_file_that_cannot_be_written_is_one_line(open_runs: None, typed: Typist) -> None:
    found = typed("export", "fits", "-o", "/nowhere/at/all.jsonl")
    assert found.code == 2
    assert "cannot write" in found.error


@pytest.mark.slow
def test_celery_knows_the_command_and_needs_no_broker_for_files(tmp_path: Path) -> None:
    stack.needs_entry_points()
    found = stack.run("workflow", "replay", LARGE, broker="redis://127.0.0.1:1/0", cwd=tmp_path)
    assert found.returncode == 1
    assert (
        "no workflow is named 'zoo-large' here; known: orc-schedule, sums, waiting" in found.stdout
    )
