"""The commands as they are typed, over a store in memory."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner, Result
from pydantic import BaseModel

from orchestrator.app import Orchestrator
from orchestrator.cli.runs import workflow
from orchestrator.store.memory import MemoryStore
from tests.client.runs import Recorder


class Approval(BaseModel):
    approved: bool


async def order(total: int, note: str = "") -> int:
    return total


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def recorder(store: MemoryStore) -> Recorder:
    return Recorder(store)


@pytest.fixture
def orc(store: MemoryStore) -> Iterator[Orchestrator]:
    app = Celery("shop", broker="memory://", set_as_current=False)
    orc = Orchestrator(app, store=store)
    orc.workflow(signals={"approve": Approval, "note": None})(order)
    yield orc
    app.close()


@dataclass
class Typed:
    """What a command printed, and its exit code."""

    result: Result

    @property
    def code(self) -> int:
        """The exit code; 0 for success."""
        if self.result.exception is not None and not isinstance(self.result.exception, SystemExit):
            raise self.result.exception
        return self.result.exit_code

    @property
    def out(self) -> str:
        """Standard output."""
        return self.result.stdout

    @property
    def error(self) -> str:
        """The line on standard error."""
        assert self.result.stderr.count("\n") == 1, self.result.stderr
        return self.result.stderr.strip()

    @property
    def data(self) -> Any:
        """Standard output, as JSON."""
        assert self.code == 0, self.result.stderr
        return json.loads(self.out)


@pytest.fixture
def typed(orc: Orchestrator) -> Callable[..., Typed]:
    context = CLIContext(app=orc.app, no_color=True, workdir=None)

    def run(*words: str, stdin: str | None = None) -> Typed:
        return Typed(CliRunner().invoke(workflow, list(words), obj=context, input=stdin))

    return run
