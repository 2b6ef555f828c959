"""Tests that take turns waiting: all scenarios of a module run at a time, in one stack.

Most of their time goes into waiting for claims and leases to expire.  Each is a test of its own all
the same: it fails alone, and can be selected alone.
"""

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.acceptance.stack import Scenario, Stack
from tests.acceptance.waiting import WAIT_S

#: Attribute of a test function that holds its scenario.
_SCENARIO = "scenario"


class Troupe:
    """The scenarios of a module, all under way."""

    def __init__(self, stack: Stack, scenarios: list[Scenario]) -> None:
        self._threads = ThreadPoolExecutor(max(1, len(scenarios)))
        self._futures: dict[Scenario, Future[None]] = {
            each: self._threads.submit(each, stack) for each in scenarios
        }

    def result(self, scenario: Scenario) -> None:
        """Wait for the end of `scenario`; raises what it raised."""
        self._futures[scenario].result(timeout=2 * WAIT_S)

    def close(self) -> None:
        """Wait for all of them."""
        self._threads.shutdown()


def together(scenario: Scenario) -> Callable[[Troupe], None]:
    """Make a test of a scenario that disturbs no other one of its module."""

    @functools.wraps(scenario)
    def test(troupe: Troupe) -> None:
        troupe.result(scenario)

    del test.__wrapped__  # pytest would read its signature
    setattr(test, _SCENARIO, scenario)
    return test


@pytest.fixture(scope="module")
def troupe(request: pytest.FixtureRequest, stack: Stack) -> Iterator[Troupe]:
    """The selected scenarios of this module, on the module's own `stack`."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    scenarios = [
        getattr(item.function, _SCENARIO)
        for item in items
        if item.module is request.module and hasattr(item.function, _SCENARIO)
    ]
    playing = Troupe(stack, scenarios)
    yield playing
    playing.close()
