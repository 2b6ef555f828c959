"""The names that other people type exist, load when asked for, and say what they are."""

import importlib.metadata
from pathlib import Path

import pytest

import orchestrator
from tests.architecture.tree import ROOT


def test_public_names_are_each_named_once() -> None:
    assert len(orchestrator.__all__) == len(set(orchestrator.__all__))


@pytest.mark.parametrize("name", orchestrator.__all__)
def test_public_name_loads(name: str) -> None:
    assert getattr(orchestrator, name) is not None
    assert name in dir(orchestrator)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = orchestrator.no_such_name


def test_version_is_one_and_the_changelog_has_it() -> None:
    assert importlib.metadata.version("celery-orchestrator") == orchestrator.__version__
    assert f"## {orchestrator.__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("group", ["console_scripts", "celery.commands"])
def test_entry_point_leads_to_a_command(group: str) -> None:
    points = [
        point
        for point in importlib.metadata.distribution("celery-orchestrator").entry_points
        if point.group == group
    ]
    assert points
    for point in points:
        assert callable(point.load()), point


def test_package_tells_type_checkers_that_it_is_typed() -> None:
    assert (Path(orchestrator.__file__).parent / "py.typed").exists()
