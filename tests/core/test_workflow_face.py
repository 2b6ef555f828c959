"""The public face: its names, and a logger that says everything once."""

import logging
from collections.abc import Callable

import pytest

from orchestrator import workflow
from tests.core.driver import Driver

Drive = Callable[..., Driver]


async def speaking() -> None:
    workflow.logger.warning("before")
    try:
        await workflow.step("a")
    finally:
        workflow.logger.warning("after", extra={"mine": 1})


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_logger_speaks_live_and_is_silent_in_replay(
    drive: Drive, caplog: pytest.LogCaptureFixture
) -> None:
    run = drive(speaking)
    assert said(caplog) == ["before"]
    replayed = run.replayed().execution
    assert said(caplog) == ["before"]
    replayed.close()
    assert said(caplog) == ["before"], "an evicted run has nothing to say"
    run.complete(1)
    assert said(caplog) == ["before", "after"]


def test_records_name_the_run(drive: Drive, caplog: pytest.LogCaptureFixture) -> None:
    drive(speaking).complete(1)
    record = caplog.records[-1]
    assert (record.__dict__["workflow_id"], record.__dict__["run"]) == ("w-1", 1)
    assert (record.__dict__["workflow"], record.__dict__["mine"]) == ("speaking", 1)


def test_logger_works_outside_a_workflow(caplog: pytest.LogCaptureFixture) -> None:
    workflow.logger.log(logging.ERROR, "plain")
    assert said(caplog) == ["plain"]


def test_every_public_name_is_there() -> None:
    for name in workflow.__all__:
        assert callable(getattr(workflow, name)) or name == "logger"
