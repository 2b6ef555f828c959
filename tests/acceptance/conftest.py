"""Fixtures of tests with real processes, and their logs where a test fails."""

from collections.abc import Generator
from typing import Any

import pytest

from tests.acceptance.stack import Stack
from tests.acceptance.together import troupe

__all__ = ["troupe"]

_LOG_CHARS = 3_000


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
