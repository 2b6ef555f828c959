"""``workflow drain`` and ``start --version``, as they are typed."""

from collections.abc import Callable
from typing import Any

from orchestrator.app import Orchestrator
from orchestrator.core import events as e
from orchestrator.store.memory import MemoryStore
from tests.cli.conftest import Typed
from tests.client.runs import Recorder

Run = Callable[..., Typed]


async def next_order(total: int) -> int:
    return total


def begin(store: MemoryStore, recorder: Recorder, id: str, *events: e.Event, version: str) -> None:
    store.start(id, request_id=id, body={"workflow": "order", "args": [], "kwargs": {}})
    started = e.RunStarted(at_ms=1, workflow="order", version=version, seed="00")
    recorder.record(id, started, *events, status="running")


def bodies(store: MemoryStore) -> list[Any]:
    taken = store.take_inbox(dict.fromkeys(range(store.partitions), "0"), count=100, block_ms=0)
    return [entry.body for entries in taken.values() for entry in entries]


def test_drain_says_what_may_go(
    typed: Run, store: MemoryStore, recorder: Recorder, orc: Orchestrator
) -> None:
    orc.workflow(name="order", version="2")(next_order)
    marker = e.PatchMarked(at_ms=1, patch="authorise-first", activation=1)
    begin(store, recorder, "one", marker, version="2")
    found = typed("drain", "--patch", "other")
    assert found.code == 0
    lines = [" ".join(line.split()) for line in found.out.splitlines()]
    assert lines == [
        "WORKFLOW VERSION OPEN RUNS ITS CODE",
        "order (none) 0 may be removed",
        "order 2, default 1 is what new runs begin with",
        "",
        "WORKFLOW PATCH ON NEW ON BOTH UNKNOWN OLD BRANCH THE CALL",
        "order authorise-first 1 0 0 may be deleted is needed",
        "order other 0 0 1 may be needed may be removed",
    ]
    begin(store, recorder, "elder", version="1")
    told = typed("drain", "--type", "order", "--json").data
    assert [(each["version"], each["runs"]) for each in told["versions"]] == [
        ("", 0),
        ("1", 1),
        ("2", 1),
    ]
    assert "order 1 1 is not here, and these runs are blocked" in " ".join(
        typed("drain").out.split()
    )


def test_drain_tells_of_runs_that_wait_and_of_histories_that_it_cannot_read(
    typed: Run, store: MemoryStore, recorder: Recorder
) -> None:
    store.start("waits", request_id="w", body={"workflow": "order", "args": [], "kwargs": {}})
    assert "order: 1 runs have not begun yet" in typed("drain").out
    begin(store, recorder, "torn", version="")
    part = store._of("torn")
    (log,) = [log for key, log in part.logs.items() if key.workflow_id == "torn"]
    log.clear()
    found = typed("drain")
    assert found.code == 1
    assert found.error.startswith("torn: its history cannot be read: event 1 is missing")


def test_start_takes_a_version(typed: Run, store: MemoryStore, orc: Orchestrator) -> None:
    orc.workflow(name="order", version="2")(next_order)
    for version in ("", "2"):
        said = ("--version", version, "--id", f"w{version}")
        assert typed("start", "order", "--input", "1", *said).code == 0
    # The default one needs no name; the one without a version is another one, and is named.
    assert sorted(str(body.get("version")) for body in bodies(store)) == ["", "None"]
    wrong = typed("start", "order", "--version", "3")
    assert (wrong.code, wrong.error) == (
        2,
        "error: no workflow is named 'order version 3' here; known: order",
    )
