"""``workflow check``: findings on standard output, an exit code for pipelines."""

import json
from collections.abc import Callable

import pytest
from celery.bin.base import CLIContext
from click.testing import CliRunner

from orchestrator.cli.runs import workflow as command
from tests.cli.conftest import Typed
from tests.histories import zoo

Typist = Callable[..., Typed]


@pytest.fixture
def typed_zoo() -> Typist:
    context = CLIContext(app=zoo.app, no_color=True, workdir=None)

    def run(*words: str) -> Typed:
        return Typed(CliRunner().invoke(command, list(words), obj=context))

    return run


def test_nothing_found_ends_with_nothing(typed: Typist) -> None:
    found = typed("check")
    assert (found.code, found.out) == (0, "")
    assert found.error == "nothing found in 1 workflows and what they call"


def test_findings_are_lines_and_end_with_one(typed_zoo: Typist) -> None:
    found = typed_zoo("check")
    assert found.code == 1
    assert "zoo.py:" in found.out
    assert " ORC107 except asyncio.CancelledError without raise: " in found.out
    data = json.loads(typed_zoo("check", "--json").out)
    assert [(each["code"], each["workflow"]) for each in data] == [("ORC107", "zoo-parent")]


def test_a_path_that_does_not_exist_ends_with_two(typed_zoo: Typist) -> None:
    found = typed_zoo("check", "no/such/place")
    assert found.code == 2
    assert "a file or folder is wanted" in found.error
