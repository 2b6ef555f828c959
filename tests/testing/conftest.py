"""Fixtures as a user has them, and no way out of the process."""

import socket

import pytest

from orchestrator import Orchestrator
from tests.testing import shop

pytest_plugins = ["orchestrator.testing.fixtures"]


@pytest.fixture(scope="session")
def workflow_app() -> Orchestrator:
    return shop.orc


@pytest.fixture(autouse=True)
def _no_sockets_and_no_effects(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a test of the test kit opened a socket")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    shop.EFFECTS.clear()
    shop.OUTSIDE.clear()
