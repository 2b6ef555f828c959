"""What every test of a saga leaves behind: nothing."""

from collections.abc import Iterator

import pytest

from tests.sagas import driver


@pytest.fixture(autouse=True)
def _close_runs() -> Iterator[None]:
    """Close the runs that a test leaves open, as an orchestrator does before it forgets one."""
    yield
    while driver.opened:
        driver.opened.pop().close()
