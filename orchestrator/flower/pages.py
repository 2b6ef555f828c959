"""Flower's additional pages: runs, one run, and the way there from a task.

    /workflows             runs, newest first; ?status=, ?type=
    /workflow/<id>         one run and its steps; ?run= for an earlier run of the id
    /task/<id>             Flower's own; an id that Flower does not know leads to its run
    /api/workflows         the same as JSON; also ?limit=
    /api/workflow/<id>     the same as JSON

Flower has no interface for plug-ins (2.2): its list of handlers is changed before its application
is made of it.  Whoever may see Flower's tasks sees these; all of them only read.
"""

import json
from collections.abc import Awaitable
from typing import Any, TypeVar

import flower.urls
from flower.api import BaseApiHandler
from flower.utils.tasks import get_task_by_id
from flower.views import BaseHandler
from flower.views.tasks import TaskView
from tornado import web
from tornado.web import url

from orchestrator.core.errors import (
    ConfigurationError,
    InvalidWorkflowId,
    OrchestratorError,
    RunNotFound,
    UsageError,
)
from orchestrator.core.states import RunState
from orchestrator.flower import reading
from orchestrator.flower.hiding import hides_payloads
from orchestrator.flower.reading import Filter
from orchestrator.flower.steps import worded
from orchestrator.flower.templating import use_page_loader

T = TypeVar("T")

STATUSES = ("blocked", *(state.value for state in RunState))
_PAGES = "workflows"


async def _read(answer: Awaitable[T]) -> T:
    """Return `answer`; what the store could not give is an error of HTTP, with its reason."""
    try:
        return await answer
    except (RunNotFound, InvalidWorkflowId) as error:
        raise web.HTTPError(404, str(error)) from error
    except ConfigurationError as error:
        raise web.HTTPError(500, str(error)) from error
    except UsageError as error:
        raise web.HTTPError(400, str(error)) from error
    except OrchestratorError as error:
        raise web.HTTPError(503, str(error)) from error


class _Reader(BaseHandler):
    """What the handlers share."""

    def filter(self) -> Filter:
        """Return what the address asks for."""
        return Filter(
            status=self.get_argument("status", "", escape=False),
            type=self.get_argument("type", "", escape=False),
            limit=self.get_argument("limit", reading.RUNS_SHOWN, type=int),
        )

    def run_number(self) -> int:
        """Return which run of an id the address asks for; 0 for the latest."""
        number = self.get_argument("run", 0, type=int)
        if number < 0:
            raise web.HTTPError(400, "run is a number from 1; 0 is the latest")
        return int(number)


class _Page(_Reader):
    def write_error(self, status_code: int, **details: Any) -> None:
        """Say on a page of Flower's own what is wrong; its other pages go on working."""
        error = details.get("exc_info", (None, None))[1]
        if status_code not in (500, 503) or not isinstance(error, web.HTTPError):
            super().write_error(status_code, **details)
            return
        if not hasattr(self, "_current_user"):
            self.current_user = None
        self.render("workflows-unavailable.html", message=error.get_message())


class WorkflowsPage(_Page):
    """Runs, newest first."""

    @web.authenticated
    async def get(self) -> None:
        """Show them."""
        wanted = self.filter()
        runs = await _read(reading.list_runs(self.capp, wanted))
        self.render("workflows.html", runs=runs, wanted=wanted, statuses=STATUSES)


class WorkflowPage(_Page):
    """One run and its steps."""

    @web.authenticated
    async def get(self, workflow_id: str) -> None:
        """Show it."""
        view = await _read(reading.read_run(self.capp, workflow_id, self.run_number()))
        self.render(
            "workflow.html",
            run=view.run,
            facts=reading.run_json(view.run),
            steps=view.steps,
            unread=view.unread,
            is_known=lambda task_id: get_task_by_id(self.application.events, task_id) is not None,
            indented=lambda value: json.dumps(value, ensure_ascii=False, indent=2),
            worded=lambda failure: worded(failure, with_payloads=not hides_payloads()),
        )


class TaskOrRunPage(TaskView):
    """Flower's page of a task, or, where it has seen none of this id, the page of its run."""

    @web.authenticated
    async def get(self, task_id: str) -> None:
        """Show the one, or lead to the other."""
        if get_task_by_id(self.application.events, task_id) is None:
            try:
                key = await reading.find_run(self.capp, task_id)
            except OrchestratorError:
                key = None  # Flower's own answer is still right: it knows no such task (FL1)
            if key is not None:
                self.redirect(f"{self.reverse_url('workflow', key.workflow_id)}?run={key.run}")
                return
        super().get(task_id)


class WorkflowsApi(_Reader, BaseApiHandler):
    """Runs, newest first, as JSON."""

    @web.authenticated
    async def get(self) -> None:
        """Write them."""
        runs = await _read(reading.list_runs(self.capp, self.filter()))
        self.write({"workflows": [reading.run_json(run) for run in runs]})


class WorkflowApi(_Reader, BaseApiHandler):
    """One run and its steps, as JSON."""

    @web.authenticated
    async def get(self, workflow_id: str) -> None:
        """Write it."""
        view = await _read(reading.read_run(self.capp, workflow_id, self.run_number()))
        self.write(view.as_json())


def add_pages() -> None:
    """Have the Flower that starts next in this process serve these pages; safe to repeat.

    Raises:
        ConfigurationError: Flower's handlers are not what they were: another version.
    """
    handlers = flower.urls.handlers
    names = [getattr(handler, "name", None) for handler in handlers]
    if _PAGES in names:
        return
    if "task" not in names:
        raise ConfigurationError(
            "pages for Flower", "no handler named 'task' in flower.urls", "Flower 2.2"
        )
    handlers[names.index("task")] = url(r"/task/(.+)", TaskOrRunPage, name="task")
    # Before the last one, which takes every address.
    handlers[-1:-1] = [
        url(r"/workflows", WorkflowsPage, name=_PAGES),
        url(r"/workflow/(.+)", WorkflowPage, name="workflow"),
        (r"/api/workflows", WorkflowsApi),
        (r"/api/workflow/(.+)", WorkflowApi),
    ]
    use_page_loader(flower.urls.settings)
