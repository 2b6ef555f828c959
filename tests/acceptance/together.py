"""Tests that wait side by side: all scenarios of a stack run at a time.

Most of their time goes into waiting for claims and leases to expire.  Each is a test of its own all
the same: it fails alone, and can be selected alone.
"""

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import ModuleType

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
        self._futures[scenario].result(timeout=4 * WAIT_S)

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


def scenarios_of(request: pytest.FixtureRequest, module: ModuleType | None) -> list[Scenario]:
    """Return the selected scenarios of `module`; None: of all that have no stack of their own."""
    return [
        getattr(item.function, _SCENARIO)
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and hasattr(item.function, _SCENARIO)
        and (item.module is module if module else not hasattr(item.module, "stack"))
    ]


@pytest.fixture(scope="session")
def calm_troupe(request: pytest.FixtureRequest, calm_stack: Stack) -> Iterator[Troupe]:
    """The selected scenarios of all modules that share the calm stack."""
    playing = Troupe(calm_stack, scenarios_of(request, None))
    yield playing
    playing.close()


@pytest.fixture(scope="module")
def troupe(request: pytest.FixtureRequest, stack: Stack) -> Iterator[Troupe]:
    """The scenarios that the module's tests wait for."""
    if not hasattr(request.module, "stack"):
        yield request.getfixturevalue("calm_troupe")
        return
    playing = Troupe(stack, scenarios_of(request, request.module))
    yield playing
    playing.close()
