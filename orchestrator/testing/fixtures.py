"""Fixtures for pytest: ``pytest_plugins = ["orchestrator.testing.fixtures"]`` in a conftest.py.

`workflow_app` has to be overridden there; it says which app is tested:

    @pytest.fixture(scope="session")
    def workflow_app():
        from shop import orc
        return orc
"""

from collections.abc import Iterator

import pytest
from celery import Celery

from orchestrator.app import Orchestrator
from orchestrator.core.errors import ConfigurationError
from orchestrator.testing.environment import WorkflowEnvironment
from orchestrator.testing.step_environment import StepEnvironment


@pytest.fixture(scope="session")
def workflow_app() -> Orchestrator | Celery:
    """The app whose workflows are tested; to be overridden."""
    raise ConfigurationError(
        "fixture workflow_app",
        "the one that orchestrator.testing.fixtures brings",
        "override it in conftest.py: it returns your Orchestrator, or the Celery app that has one",
    )


@pytest.fixture
def workflow_env(workflow_app: Orchestrator | Celery) -> Iterator[WorkflowEnvironment]:
    """An engine in memory for `workflow_app`, new for each test; see `WorkflowEnvironment`."""
    with WorkflowEnvironment(workflow_app) as env:
        yield env


@pytest.fixture
def step_env() -> StepEnvironment:
    """What runs the bodies of single tasks; see `StepEnvironment`."""
    return StepEnvironment()
