"""Fixtures of tests with real processes, and their logs where a test fails."""

from collections.abc import Generator, Iterator
from typing import Any

import pytest

from tests.acceptance.stack import Stack
from tests.acceptance.together import calm_troupe, troupe

__all__ = ["calm_troupe", "troupe"]

_LOG_CHARS = 3_000


@pytest.fixture(scope="session", autouse=True)
def without_broker_of_the_environment() -> Iterator[None]:
    """Celery prefers this variable to the broker that a program names; clients here name one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CELERY_BROKER_URL", raising=False)
        yield


@pytest.fixture(scope="session")
def calm_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack in which nobody is killed, for all modules that leave it as they found it."""
    with Stack(tmp_path_factory.mktemp("calm")) as stack:
        stack.orchestrator()
        stack.ready_worker("-c", "3")
        yield stack


@pytest.fixture(scope="module")
def stack(calm_stack: Stack) -> Stack:
    """The calm stack; a module that kills has its own under this name."""
    return calm_stack


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the ends of all logs to the report of a failed test; the files stay in its directory."""
    report = yield
    fixtures: dict[str, Any] = getattr(item, "funcargs", {})
    request = getattr(item, "_request", None)
    stack = fixtures.get("stack")
    if stack is None and request is not None and "troupe" in fixtures:
        stack = request.getfixturevalue("stack")
    if report.failed and isinstance(stack, Stack):
        for child in stack.children:
            report.sections.append((str(child.log_path), child.log()[-_LOG_CHARS:]))
    return report
