"""V1 to V4: which code a run begins with, and which carries it on."""

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.events import RunStarted
from orchestrator.core.versions import (
    every_version,
    find_version,
    named_version,
    to_carry_on,
    to_start,
    why_unknown,
)
from tests.core.driver import define


async def order() -> None: ...


def versions(*names: str, versioning: str = "pinned") -> dict[str, WorkflowDefinition]:
    """Return a registry with these versions of ``order``; the last is the default one."""
    made = [replace(define(order), version=name, versioning=versioning) for name in names]
    return {"order": replace(made[-1], others=tuple(made[:-1]))}


def carries_on(registry: Any, recorded: str, *, is_pinned: bool = False) -> str | None:
    started = RunStarted(
        at_ms=1, workflow="order", version=recorded, seed="c0ffee", is_pinned=is_pinned
    )
    found = to_carry_on(registry, started)
    return None if found is None else found.version


@pytest.mark.parametrize(
    ("deployed", "recorded", "expected"),
    [
        (("1", "2"), "1", "1"),
        (("1", "2"), "2", "2"),
        (("1", "2"), "3", None),
        (("1", "2"), "", "2"),
        (("", "2"), "", ""),
        (("", "2"), "1", None),
        (("",), "1", ""),
        (("2",), "", "2"),
    ],
)
def test_a_pinned_run_goes_on_under_its_own_version(
    deployed: tuple[str, ...], recorded: str, expected: str | None
) -> None:
    assert carries_on(versions(*deployed), recorded) == expected


@pytest.mark.parametrize("recorded", ["", "1", "2", "0"])
def test_a_default_that_upgrades_takes_over_all_runs(recorded: str) -> None:
    registry = versions("1", "2", versioning="auto_upgrade")
    assert carries_on(registry, recorded) == "2"


def test_a_run_whose_start_named_its_version_is_not_taken_over() -> None:
    registry = versions("1", "2", versioning="auto_upgrade")
    assert carries_on(registry, "1", is_pinned=True) == "1"
    assert carries_on(registry, "0", is_pinned=True) is None
    assert carries_on(registry, "", is_pinned=True) is None
    assert carries_on(versions("", "2"), "", is_pinned=True) == ""


def test_a_new_run_begins_under_the_default_or_the_named_version() -> None:
    registry = versions("1", "2")
    found = [to_start(registry, "order", name) for name in (None, "1", "2", "3")]
    assert [each and each.version for each in found] == ["2", "1", "2", None]
    assert to_start(registry, "odrer") is None


def test_a_start_names_the_version_only_where_it_is_not_the_default() -> None:
    registry = versions("1", "2")
    one, two = find_version(registry["order"], "1"), registry["order"]
    assert one is not None
    assert named_version(registry, one) == {"version": "1"}
    assert named_version(registry, two) == {}
    assert named_version({}, one) == {}


def test_what_is_missing_is_said_with_what_there_is() -> None:
    registry = versions("1", "2")
    assert why_unknown(registry, "order", "3") == (
        "workflow 'order' has no version '3' here; known: '1', '2'; deploy that version beside "
        "them, or let the default one take its runs over: versioning='auto_upgrade'"
    )
    assert why_unknown(registry, "odrer", "") == (
        "no workflow is named 'odrer' here; known: order; deploy it here"
    )


def test_every_version_is_walked_the_default_one_first() -> None:
    assert [each.version for each in every_version(versions("1", "2", "3"))] == ["3", "1", "2"]
