"""DR1 to DR5: what open runs need of old code, and what may go."""

from dataclasses import replace
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.client import exporting
from orchestrator.client.draining import Drain, PatchUse, VersionUse, drain
from orchestrator.client.port import Bridged, in_place, pause_in_place, run_in_place
from orchestrator.client.session import Session
from orchestrator.core import guard
from orchestrator.payloads import PydanticCodec
from orchestrator.store.ports import Kind, RunKey
from tests.engine.world import World, definition


@pytest.fixture(autouse=True)
def _guarded() -> None:
    guard.install()


async def before() -> None:
    while await workflow.signal("go"):
        await workflow.step("old")


async def after() -> None:
    while await workflow.signal("go"):
        await workflow.step("new" if workflow.patched("better") else "old")


async def deprecated() -> None:
    while await workflow.signal("go"):
        workflow.deprecate_patch("better")
        await workflow.step("new")


def world_of(function: Any) -> World:
    world = World(definition(function, "order"))
    world.tasks.update(old=lambda: None, new=lambda: None)
    return world


def deploy(world: World, function: Any) -> None:
    world.deploy(definition(function, "order"))
    world.restart()


def begin(world: World, *ids: str) -> None:
    for id in ids:
        world.start("order", id=id)
    world.settle()


def go(world: World, *ids: str, on: bool = True) -> None:
    for id in ids:
        world.signal("go", on, id=id)
    world.settle()


def drained(world: World, **settings: Any) -> Drain:
    session = Session(
        store=Bridged(world.store, in_place),
        pause=pause_in_place,
        codec=PydanticCodec(),
        registry=world.registry,
        blobs=world.blobs,
    )
    return run_in_place(drain(session, **settings))


def patch_of(found: Drain) -> PatchUse:
    (use,) = found.patches
    return use


def counts(use: PatchUse) -> tuple[int, int, int, int]:
    return use.marked, use.deprecated, use.late, use.unmarked


def versions(found: Drain) -> dict[str, VersionUse]:
    return {use.version: use for use in found.versions}


def test_a_patch_is_needed_on_both_sides_while_runs_are_on_both() -> None:
    world = world_of(before)
    begin(world, "passed", "both", "untouched")
    go(world, "passed", "both")
    deploy(world, after)
    begin(world, "new")
    go(world, "both", "new")
    use = patch_of(drained(world))
    assert counts(use) == (2, 0, 1, 2)
    assert (use.may_delete_old_branch, use.may_remove_call) == (False, False)


def test_the_old_branch_may_go_once_no_open_run_may_have_taken_it() -> None:
    world = world_of(before)
    begin(world, "passed", "both")
    go(world, "passed", "both")
    deploy(world, after)
    begin(world, "new")
    go(world, "both", "new")
    go(world, "passed", on=False)
    assert not patch_of(drained(world)).may_delete_old_branch, "both is late"
    go(world, "both", on=False)
    use = patch_of(drained(world))
    assert counts(use) == (1, 0, 0, 0)
    assert (use.may_delete_old_branch, use.may_remove_call) == (True, False)


def test_what_drain_lets_go_of_blocks_no_run() -> None:
    """Each stage of a patch's life, as far as drain says that it may go on."""
    world = world_of(after)
    begin(world, "one")
    go(world, "one")
    assert patch_of(drained(world)).may_delete_old_branch
    deploy(world, deprecated)
    begin(world, "two")
    go(world, "one", "two")
    use = patch_of(drained(world))
    assert (counts(use), use.may_remove_call) == ((2, 1, 0, 0), False)
    go(world, "one", on=False)
    assert patch_of(drained(world)).may_remove_call

    async def cleaned() -> None:
        while await workflow.signal("go"):
            await workflow.step("new")

    deploy(world, cleaned)
    go(world, "two")
    go(world, "two", on=False)
    assert [world.status(id) for id in ("one", "two")] == ["completed", "completed"]
    assert "RunBlocked" not in world.names("one") + world.names("two")


def test_a_patch_that_no_open_run_has_is_told_of_when_asked_for() -> None:
    world = world_of(before)
    begin(world, "passed")
    assert drained(world).patches == []
    use = patch_of(drained(world, patches=["better"]))
    assert counts(use) == (0, 0, 0, 1)
    assert not use.may_delete_old_branch
    go(world, "passed", on=False)
    assert patch_of(drained(world, patches=["better"])).may_delete_old_branch


def version(name: str, **options: Any) -> Any:
    return definition(before, "order", version=name, **options)


def test_a_version_may_be_removed_once_it_carries_no_open_run() -> None:
    world = World(version("1"))
    world.tasks.update(old=lambda: None)
    begin(world, "first")
    world.deploy(replace(version("2"), others=(version("1"), version("0"))))
    world.restart()
    begin(world, "second")
    found = versions(drained(world))
    assert {name: (use.runs, use.may_be_removed) for name, use in found.items()} == {
        "0": (0, True),
        "1": (1, False),
        "2": (1, False),
    }
    go(world, "first", "second", on=False)
    found = versions(drained(world))
    assert [found[name].may_be_removed for name in "012"] == [True, True, False]


def test_a_version_whose_runs_the_default_one_takes_over_may_be_removed() -> None:
    world = World(version("1"))
    begin(world, "first")
    world.deploy(replace(version("2", versioning="auto_upgrade"), others=(version("1"),)))
    found = versions(drained(world))
    assert (found["1"].started, found["1"].runs, found["1"].may_be_removed) == (1, 0, True)
    assert (found["2"].started, found["2"].runs) == (0, 1)


def test_a_version_that_is_not_here_is_told_of_with_its_runs() -> None:
    world = World(version("1"))
    begin(world, "first")
    world.deploy(version("2"))
    use = versions(drained(world))["1"]
    assert (use.is_here, use.runs, use.may_be_removed) == (False, 1, False)


def test_a_run_that_has_not_begun_may_want_any_version_and_no_old_branch() -> None:
    world = world_of(after)
    begin(world, "one")
    go(world, "one")
    world.deploy(replace(version("2"), others=(version("1"),)))
    world.start("order", id="waits")
    found = drained(world)
    assert found.waiting == {"order": 1}
    assert not versions(found)["1"].may_be_removed
    assert patch_of(found).may_delete_old_branch


def test_a_history_that_cannot_be_read_could_need_anything() -> None:
    world = world_of(after)
    begin(world, "one", "torn")
    go(world, "one", "torn")
    world.deploy(replace(version("2"), others=(version("1"),)))
    log = world.store._of("torn").logs[RunKey(workflow_id="torn", run=1)]
    log[1] = replace(log[1], data=b'{"type":"FromTheFuture","at_ms":1}')
    found = drained(world)
    assert list(found.failed) == ["torn"]
    assert "FromTheFuture" in found.failed["torn"]
    assert not versions(found)["1"].may_be_removed
    assert not patch_of(found).may_delete_old_branch
    del log[1]
    assert "event 2 is missing" in drained(world).failed["torn"]


def test_only_open_runs_of_the_type_count_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "PAGE_EVENTS", 2)
    world = world_of(after)
    world.deploy(definition(before, "other"))
    begin(world, "one", "ended")
    world.start("other", id="other")
    go(world, "one", "ended", "other")
    world.post(Kind.TERMINATE, {"reason": "", "request_id": "t"}, id="ended")
    world.settle()
    found = drained(world, type="order")
    assert counts(patch_of(found)) == (1, 0, 0, 0)
    assert {use.workflow for use in found.versions} == {"order"}
    assert {use.workflow for use in drained(world).versions} == {"order", "other"}


def test_it_has_a_form_for_programs() -> None:
    world = world_of(after)
    begin(world, "one")
    go(world, "one")
    told = drained(world).as_json()
    assert told["patches"] == [
        {
            "workflow": "order",
            "patch": "better",
            "marked": 1,
            "deprecated": 0,
            "late": 0,
            "unmarked": 0,
            "may_delete_old_branch": True,
            "may_remove_call": False,
        }
    ]
