"""What Flower is changed into, before it starts: pages, navigation, events without payloads.

Flower itself, with all of that, is met in tests/acceptance/test_flower.py.
"""

import runpy
from typing import Any

import flower.events
import flower.urls
import pytest

from orchestrator.client.summary import RunSummary
from orchestrator.core.errors import ConfigurationError
from orchestrator.core.failure import Failure
from orchestrator.flower import add_pages, hide_payloads
from orchestrator.flower.hiding import hides_payloads, without_payloads
from orchestrator.flower.reading import possible_runs, run_json
from orchestrator.flower.templating import with_entry
from orchestrator.store.ports import RunKey
from tests.architecture.tree import ROOT

CONFIGURATION = str(ROOT / "ops/flowerconfig.py")


@pytest.fixture(autouse=True)
def flower_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test changes of Flower is undone."""
    monkeypatch.setattr(flower.urls, "handlers", list(flower.urls.handlers))
    monkeypatch.setattr(flower.urls, "settings", dict(flower.urls.settings))
    monkeypatch.setattr(flower.events, "EventsState", flower.events.EventsState)
    for name in ("FLOWER_BASIC_AUTH", "FLOWER_AUTH", "FLOWER_HIDE_PAYLOADS"):
        monkeypatch.delenv(name, raising=False)


def test_pages_are_added_once_and_before_the_handler_that_takes_everything() -> None:
    before = len(flower.urls.handlers)
    add_pages()
    add_pages()
    assert len(flower.urls.handlers) == before + 4
    assert flower.urls.handlers[-1][0] == ".*"


def test_flower_that_is_laid_out_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flower.urls, "handlers", flower.urls.handlers[-1:])
    with pytest.raises(ConfigurationError, match="no handler named 'task'"):
        add_pages()


def test_configuration_is_for_this_machine_alone_unless_somebody_has_to_log_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert runpy.run_path(CONFIGURATION)["address"] == "127.0.0.1"
    monkeypatch.setenv("FLOWER_BASIC_AUTH", "ana:secret")
    assert "address" not in runpy.run_path(CONFIGURATION)


def test_configuration_hides_payloads_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWER_HIDE_PAYLOADS", "")
    runpy.run_path(CONFIGURATION)
    assert not hides_payloads()
    monkeypatch.setenv("FLOWER_HIDE_PAYLOADS", "1")
    runpy.run_path(CONFIGURATION)
    assert hides_payloads()


def test_hidden_payloads_never_reach_the_state_of_flower() -> None:
    hide_payloads()
    state = flower.events.EventsState(max_tasks_in_memory=10)
    received = {"args": "['4711']", "kwargs": "{'pin': 1}", "name": "pay", "retries": 0}
    state.event(event("task-received", **received))
    state.event(event("task-failed", exception="shop.Refused('4711')", traceback="card 4711"))
    task = state.tasks["x.1.1.1"]
    assert (task.name, task.state, task.exception) == ("pay", "FAILURE", "shop.Refused")
    assert "4711" not in str(task.as_dict())
    assert "pin" not in str(task.as_dict())


def event(kind: str, **parts: Any) -> dict[str, Any]:
    """Return an event as Celery gives it to Flower."""
    place = {"hostname": "celery@here", "uuid": "x.1.1.1", "pid": 1, "utcoffset": 0}
    clock = {"timestamp": 1.0, "local_received": 1.0, "clock": 1}
    return {"type": kind, **place, **clock, **parts}


def test_hiding_leaves_other_parts_and_the_event_itself_alone() -> None:
    given = event("task-succeeded", result="4711", runtime=0.5)
    stripped = without_payloads(given)
    assert stripped == {**given, "result": "(hidden)"}
    assert given["result"] == "4711"
    assert without_payloads(event("task-failed", exception="<4711>"))["exception"] == "(hidden)"


def test_run_is_told_without_its_payloads_where_these_are_hidden() -> None:
    failure = Failure(type="Refused", message="card 4711")
    run = RunSummary(
        workflow_id="order-1",
        run=1,
        type="order",
        status="completed",
        result="4711",
        state={"card": "4711"},
        blocked="KeyError: 4711",
        failure=failure,
        search_attributes={"card": "4711"},
        memo={"card": "4711"},
        summary="pays with 4711",
        details="pays with 4711",
        current_details="charges 4711",
    )
    told = run_json(run)
    assert told["failure"] == "Refused: card 4711"
    assert str(told).count("4711") == 9
    hide_payloads()
    assert run_json(run) == {
        "workflow_id": "order-1",
        "run": 1,
        "type": "order",
        "status": "completed",
        "events": 0,
        "failure": "Refused",
    }


@pytest.mark.parametrize(
    ("task_id", "runs"),
    [
        ("order-1.1.2.3", [("order-1", 1), ("order-1.1.2", 3)]),
        ("order-1.7", [("order-1", 7)]),
        ("a.b/c:1.1.1.1", [("a.b/c:1", 1), ("a.b/c:1.1.1", 1)]),
        ("b7c6e5a0-3a5b-4c58-8f0c-2a1d8b5e9d11", []),
        ("order-1.0", []),
        (".1", []),
        ("x.one.1.1", [("x.one.1", 1)]),
    ],
)
def test_task_id_tells_which_runs_it_may_belong_to(
    task_id: str, runs: list[tuple[str, int]]
) -> None:
    assert possible_runs(task_id) == [RunKey(workflow_id=w, run=r) for w, r in runs]


def test_navigation_gets_one_entry_behind_tasks() -> None:
    path = flower.urls.settings["template_path"]
    with open(f"{path}/navbar.html", "rb") as file:
        navigation = file.read()
    changed = with_entry(navigation)
    places = [
        changed.index(b"reverse_url('%s')" % tab) for tab in (b"tasks", b"workflows", b"broker")
    ]
    assert places == sorted(places)


def test_navigation_that_looks_otherwise_stays_as_it_is() -> None:
    assert with_entry(b"<ul><li>Somewhere</li></ul>") == b"<ul><li>Somewhere</li></ul>"
