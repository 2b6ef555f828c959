"""Runs leave memory as they do in the product: closed, not collected."""

from collections.abc import Iterator

import pytest

from tests.engine.world import World


@pytest.fixture(autouse=True)
def _worlds_end_closed() -> Iterator[None]:
    yield
    for world in World.alive:
        world.close()
    World.alive.clear()
