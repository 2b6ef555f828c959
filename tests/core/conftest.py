"""Drivers for the tests of the core.  What a test has recorded must replay, or the test is red."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from orchestrator.core import guard
from orchestrator.core.flags import FLAGS
from tests.core.driver import Driver

guard.install()


@pytest.fixture
def drive() -> Iterator[Callable[..., Driver]]:
    drivers: list[Driver] = []

    def make(function: Callable[..., Awaitable[Any]], *args: Any, **settings: Any) -> Driver:
        flags = settings.pop("flags", FLAGS)
        driver = Driver(function, *args, settings=settings, flags=flags)
        drivers.append(driver)
        return driver

    yield make
    for driver in drivers:
        if driver.execution.is_usable:
            driver.replayed().execution.close()
        driver.close()
