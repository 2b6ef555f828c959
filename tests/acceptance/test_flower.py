"""Promise: docker-compose.yml works as it stands, and Flower shows runs and steps as people ask.

Every command of the file runs as a process, with its users' rights, and real orders go through.
What Flower shows is asked of its REST API and its pages over HTTP.  The tests run in their order:
the last one stops everything.
"""

import json
import re
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import pytest
from celery import Celery
from redis import Redis

from orchestrator import RunHandle, WorkflowFailed
from orchestrator.core import events as e
from orchestrator.dispatch import CeleryDispatcher
from orchestrator.engine.ports import Outgoing
from orchestrator.store.ports import AttemptKey
from sagas.order import Order
from tasks.faults import Mode, set_switch
from tests.acceptance import compose
from tests.acceptance.child import ROOT
from tests.acceptance.composed import EVENTS, Composed, Page, Web
from tests.acceptance.stack import SHOP, events_of
from tests.acceptance.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.long]

CUSTOMER = "ana@example.org"
#: Longer than any command takes to be run on a loaded machine; a cancellation ends it.
HANG_SECONDS = 40.0
#: For each order: what becomes of its steps, and what its tasks in Flower are, by number.
UNDONE = {
    "undone.1.1.1": "SUCCESS",
    "undone.1.2.1": "SUCCESS",
    "undone.1.3.1": "FAILURE",
    "undone.1.4.1": "SUCCESS",
    "undone.1.5.1": "SUCCESS",
    "undone.1.6.1": "SUCCESS",
}
SERVICES = ["valkey", "worker", "orchestrator-a", "orchestrator-b", "flower"]


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    """Everything at work, and the orders on their way."""
    with (
        pytest.MonkeyPatch.context() as patch,
        Composed(tmp_path_factory.mktemp("composed")) as composed,
    ):
        # Where the tests set the shop's switches: the database that the worker has.
        patch.setenv(SHOP, composed.machine.environment("worker")[SHOP])
        yield composed


@pytest.fixture(scope="module")
def web(composed: Composed) -> Web:
    """Flower."""
    return composed.web


@pytest.fixture(scope="module")
def undone(composed: Composed) -> RunHandle[Any]:
    """An order whose last step is refused, so that all are undone."""
    set_switch("ship", Mode.REFUSE, order_id="undone")
    handle = start(composed, "undone")
    with pytest.raises(WorkflowFailed):
        handle.result(timeout=30)
    return handle


def start(composed: Composed, order_id: str, total: int = 12) -> RunHandle[Any]:
    """Start an order as a client may; it has the id of its run."""
    order = Order(id=order_id, total=Decimal(total), customer=CUSTOMER)
    return composed.client().get_workflow("order").start(order, id=order_id)


def scheduled_step(handle: RunHandle[Any], step: int) -> e.StepScheduled:
    """Return what the run's history says of a step's beginning."""
    (event,) = events_of(handle, e.StepScheduled, step=step)
    assert isinstance(event, e.StepScheduled)
    return event


def test_steps_are_found_by_workflow_id_with_names_arguments_and_results(
    undone: RunHandle[Any], composed: Composed, web: Web
) -> None:
    other = start(composed, "shipped")
    other.signal("delivered", {"signed_by": "ana"})
    other.result(timeout=30)
    tasks = web.wait_for_tasks("undone", UNDONE)
    assert [tasks[f"undone.1.{step}.1"]["name"] for step in range(1, 7)] == [
        "tasks.inventory.reserve",
        "tasks.payment.charge",
        "tasks.shipping.ship",
        "tasks.payment.refund",
        "tasks.inventory.release",
        "tasks.notification.notify",
    ]
    (reserve, charge) = (tasks[f"undone.1.{step}.1"] for step in (1, 2))
    scheduled = scheduled_step(undone, 2)
    assert json.loads(charge["args"]) == scheduled.args
    assert json.loads(charge["args"])[0]["customer"] == CUSTOMER
    assert charge["kwargs"] == "{}"
    assert "'amount_cents': 1200" in charge["result"]
    assert reserve["root_id"] == reserve["parent_id"] == "undone.1"
    assert web.tasks("undone charge").keys() == {"undone.1.2.1"}
    assert web.tasks("undone state:FAILURE").keys() == {"undone.1.3.1"}


def test_search_box_finds_what_the_api_finds(undone: RunHandle[Any], web: Web) -> None:
    web.wait_for_tasks("undone", UNDONE)
    table = web.get(
        "/tasks/datatable",
        {
            "draw": 1,
            "start": 0,
            "length": 50,
            "search[value]": "undone",
            "order[0][column]": 0,
            "order[0][dir]": "asc",
            "columns[0][data]": "name",
        },
    ).json()
    assert {row["uuid"] for row in table["data"]} == UNDONE.keys()
    heads = re.findall(r'data-column="(\w+)"', web.get("/tasks").text)
    assert heads == ["name", "uuid", "state", "args", "result", "received", "runtime", "worker"]


def test_failed_attempt_shows_its_exception_and_the_next_one_its_result(
    composed: Composed, web: Web
) -> None:
    set_switch("ship", Mode.FAIL, order_id="retried", remaining=1)
    handle = start(composed, "retried")
    handle.signal("delivered", {})
    handle.result(timeout=30)
    states = {f"retried.1.{step}.1": "SUCCESS" for step in (1, 2, 4, 5)}
    states |= {"retried.1.3.1": "FAILURE", "retried.1.3.2": "SUCCESS"}
    tasks = web.wait_for_tasks("retried", states)
    failed = tasks["retried.1.3.1"]
    assert failed["exception"] == (
        "RuntimeError('ship of order retried fails, as its switch says')"
    )
    assert "tasks/shipping.py" in failed["traceback"]
    assert web.get("/api/task/info/retried.1.3.2").json()["args"] == failed["args"]
    page = web.get("/workflow/retried").text
    assert "RuntimeError: ship of order retried fails" in page
    assert 'href="/task/retried.1.3.2"' in page


def test_undo_names_the_step_it_undoes(undone: RunHandle[Any], web: Web) -> None:
    tasks = web.wait_for_tasks("undone", UNDONE)
    assert tasks["undone.1.4.1"]["parent_id"] == "undone.1.2.1"
    assert tasks["undone.1.5.1"]["parent_id"] == "undone.1.1.1"
    assert tasks["undone.1.2.1"]["children"] == ["undone.1.4.1"]
    steps = web.get("/api/workflow/undone").json()["steps"]
    assert {step["step"]: step.get("undoes") for step in steps} == {
        **dict.fromkeys((1, 2, 3, 6)),
        4: 2,
        5: 1,
    }
    page = web.get("/workflow/undone").text
    assert "undoes step 2" in page
    assert "undoes step 1" in page


def test_copy_of_a_message_that_is_refused_does_not_look_like_a_failure(
    undone: RunHandle[Any], composed: Composed, web: Web
) -> None:
    before = web.wait_for_tasks("undone", UNDONE)["undone.1.1.1"]
    seen = begun(web, "tasks.inventory.reserve")
    app = Celery("copier", broker=composed.url_of("orchestrator"), set_as_current=False)
    scheduled = scheduled_step(undone, 1)
    copy = CeleryDispatcher(app).message(
        Outgoing(
            key=AttemptKey.parse("undone.1.1.1"),
            task=scheduled.task,
            args=scheduled.args,
            kwargs=scheduled.kwargs,
            idempotency_key="undone.1.1",
        )
    )
    with Redis.from_url(composed.url_of("orchestrator"), protocol=2) as redis:
        redis.lpush(copy.queue, copy.body)
    app.close()
    composed.children["worker"].wait_for_log("undone.1.1.1: not run, this copy is not wanted")
    eventually(lambda: begun(web, scheduled.task) > seen, "Flower hears that the copy begins")
    after = web.tasks("undone.1.1.1")["undone.1.1.1"]
    for part in ("state", "result", "exception", "failed", "succeeded"):
        assert after[part] == before[part], part
    assert web.tasks("undone.1.1.1 state:FAILURE") == {}


def test_step_that_was_cancelled_in_its_queue_is_no_failure_and_its_run_says_so(
    composed: Composed, web: Web
) -> None:
    worker = composed.children["worker"]
    worker.pause()
    handle = start(composed, "withdrawn")
    eventually(lambda: events_of(handle, e.StepScheduled, step=1), "its first step is in the queue")
    handle.cancel("changed my mind")
    eventually(lambda: events_of(handle, e.StepFailed, step=1), "the step is given up")
    worker.resume()
    worker.wait_for_log("withdrawn.1.1.1: not run, this copy is not wanted")
    # Celery has no event for a message that its task ignores: the task stays where it was.
    web.wait_for_tasks("withdrawn.1.1.1", {"withdrawn.1.1.1": "STARTED"})
    with pytest.raises(WorkflowFailed):
        handle.result(timeout=30)
    view = web.get("/api/workflow/withdrawn").json()
    assert view["run"]["status"] == "cancelled"
    assert view["steps"][0]["status"] == "cancelled"


def begun(web: Web, task: str) -> float:
    """Return how often Flower has seen the task begin."""
    metrics = web.get("/metrics", password=None).text
    counts = re.findall(
        rf'flower_events_total\{{task="{task}",type="task-started",.*\}} (.+)', metrics
    )
    return sum(map(float, counts))


def test_pages_list_runs_with_their_status(
    undone: RunHandle[Any], composed: Composed, web: Web
) -> None:
    waiting = start(composed, "waiting", total=9000)
    eventually(lambda: (waiting.state() or {}).get("status") == "awaiting_approval", "it waits")
    runs = {run["workflow_id"]: run for run in web.get("/api/workflows").json()["workflows"]}
    assert runs["undone"]["status"] == "failed"
    assert runs["waiting"]["status"] == "running"
    assert runs["waiting"]["state"]["status"] == "awaiting_approval"
    page = web.get("/workflows").text
    assert re.search(r'href="/workflow/waiting".*?>running<', page, re.DOTALL)
    assert re.search(r'href="/workflow/undone".*?>failed<', page, re.DOTALL)
    only = web.get("/api/workflows", {"status": "running", "limit": 1}).json()["workflows"]
    assert [run["workflow_id"] for run in only] == ["waiting"]
    assert 'href="/workflow/undone"' not in web.get("/workflows", {"status": "running"}).text
    assert web.get("/api/workflows", {"type": "none"}).json() == {"workflows": []}
    assert "awaiting_approval" in web.get("/workflow/waiting").text


def test_id_of_any_characters_is_shown_as_it_is_and_found(composed: Composed, web: Web) -> None:
    name = """<b>/%25&'".{1}.2"""
    start(composed, name, total=9000)
    web.wait_for_tasks(f'"{name[:6]}"', {f"{name}.1.{n}.1": "SUCCESS" for n in (1, 2)})
    page = web.get("/workflows").text
    assert "<b>" not in page
    (link,) = re.findall(r'href="(/workflow/%3Cb[^"]*)"', page)
    assert "awaiting_approval" in web.get(unquote(link)).text
    assert web.get(f"/api/workflow/{name}").json()["run"]["workflow_id"] == name
    assert web.get(f"/task/{name}.1").status == 302


def test_commands_that_the_file_suggests_work(composed: Composed) -> None:
    head = (ROOT / "docker-compose.yml").read_text().partition("\nservices:")[0]
    commands = re.findall(r"#   docker compose exec ([\w-]+) (.+)", head)
    assert len(commands) == 2
    said = [composed.run(composed.machine.words(line), of=service) for service, line in commands]
    assert [each.returncode for each in said] == [0, 0], said
    (order_id,) = set(re.findall(r"(order-\w+): ", said[0].stdout))
    assert re.search(rf"{order_id} +1 +order +completed", said[1].stdout), said[1].stdout


def test_every_way_leads_from_a_task_to_its_run(undone: RunHandle[Any], web: Web) -> None:
    web.wait_for_tasks("undone", UNDONE)
    task = web.get("/task/undone.1.2.1").text
    assert "tasks.payment.charge" in task
    assert 'href="/task/undone.1"' in task, "the root"
    # Not a task; and one that this Flower has not seen, as after its restart.
    for unseen in ("undone.1", "undone.1.7.1"):
        page = web.get(f"/task/{unseen}")
        assert (page.status, page.headers["Location"]) == (302, "/workflow/undone?run=1")
    assert web.get("/workflow/undone", {"run": 1}).status == 200
    for nothing in (
        "/task/nothing",
        "/task/no.1.2.3",
        "/workflow/nothing",
        "/api/workflow/nothing",
    ):
        assert web.get(nothing).status == 404, nothing
    assert web.get("/workflow/undone", {"run": 2}).status == 404
    assert web.get("/workflow/undone", {"run": "x"}).status == 400
    assert 'href="/workflows"' in web.get("/tasks").text, "in the navigation of every page"


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/tasks", "/task/x", "/workflows", "/workflow/undone", "/broker"),
        *("/api/tasks", "/api/task/info/undone.1.1.1", "/api/workers"),
        *("/api/workflows", "/api/workflow/undone"),
    ],
)
def test_nothing_is_shown_without_the_password(web: Web, path: str) -> None:
    assert web.get(path, password=None).status == 401
    assert web.get(path, password="ana:wrong").status == 401


def test_nothing_can_be_done_to_workers_or_tasks_from_here(composed: Composed, web: Web) -> None:
    (worker,) = web.get("/api/workers", {"status": "true"}).json()
    for path in (f"/api/worker/shutdown/{worker}", "/api/task/async-apply/tasks.payment.charge"):
        assert web.get(path, post=True).status in (403, 405), path
    assert composed.children["worker"].is_running


def test_hidden_payloads_are_neither_shown_nor_found(
    undone: RunHandle[Any], composed: Composed
) -> None:
    discreet = composed.discreet_web
    tasks = discreet.wait_for_tasks("undone", UNDONE)
    assert {(task["args"], task["kwargs"]) for task in tasks.values()} == {("(hidden)",) * 2}
    assert tasks["undone.1.3.1"]["exception"] == "ApplicationError"
    assert discreet.tasks(CUSTOMER) == {}
    pages = ["/api/tasks", "/api/workflows", "/api/workflow/undone", "/workflow/undone"]
    pages += ["/task/undone.1.2.1", "/task/undone.1.3.1", "/workflows"]
    for path in pages:
        text = discreet.get(path).text
        assert "undone" in text, path
        assert not re.search(f"{CUSTOMER}|is refused|_cents|pay-", text), path
    # What is hidden there is shown elsewhere: the search above could have found it.
    assert composed.web.tasks(CUSTOMER).keys() >= UNDONE.keys() - {"undone.1.6.1"}


def test_worker_page_metrics_and_celery_s_own_commands_show_a_running_step(
    composed: Composed, web: Web
) -> None:
    set_switch("charge", Mode.HANG, order_id="hanging", seconds=HANG_SECONDS)
    handle = start(composed, "hanging")
    web.wait_for_tasks("hanging state:STARTED", {"hanging.1.2.1": "STARTED"})
    active = json.loads(composed.celery("inspect", "active", "--json", of="flower").stdout)
    ((worker, requests),) = active.items()
    assert [(each["id"], each["name"]) for each in requests] == [
        ("hanging.1.2.1", "tasks.payment.charge")
    ]
    page = eventually(lambda: shows(web.get(f"/worker/{worker}"), "hanging.1.2.1"), "its page")
    assert "tasks.payment.charge" in page
    handle.cancel("the test has seen it")
    metrics = web.get("/metrics", password=None).text
    assert f'flower_worker_online{{worker="{worker}"}} 1.0' in metrics
    assert re.search(
        r'flower_task_runtime_seconds_count\{task="tasks.payment.charge",.*\} [1-9]', metrics
    )
    events = composed.children[EVENTS]
    events.wait_for_log("task received: tasks.payment.charge(hanging.1.2.1)")


def shows(page: Page, text: str) -> str:
    """Return the page's text if `text` is in it, else nothing."""
    return page.text if text in page.text else ""


def test_store_that_does_not_answer_costs_the_workflow_pages_alone(
    undone: RunHandle[Any], composed: Composed, web: Web
) -> None:
    server = composed.children["valkey"]
    server.pause()
    try:
        page = web.get("/workflows")
        assert page.status == 503
        assert "Workflows cannot be shown" in page.text
        assert web.tasks("undone").keys() == UNDONE.keys()
        assert web.get("/task/undone.1.2.1").status == 200
    finally:
        server.resume()
    eventually(lambda: web.get("/api/workflows").status == 200, "the pages are back")


@pytest.mark.parametrize("service", SERVICES)
def test_health_check_of_a_service_finds_it_well(composed: Composed, service: str) -> None:
    if service == "valkey" and compose.CLI is None:
        pytest.skip("no valkey-cli and no redis-cli is installed")
    check = composed.run(composed.machine.health(service), of=service)
    assert check.returncode == 0, check.stdout + check.stderr


def test_health_check_of_an_orchestrator_that_is_not_there_fails(composed: Composed) -> None:
    health = composed.machine.health("orchestrator-a")
    elsewhere = ["import socket; socket.gethostname = lambda: 'elsewhere'", "import runpy, sys"]
    elsewhere += [f"sys.argv = {health[1:]}", f"runpy.run_path({health[1]!r}, run_name='__main__')"]
    check = composed.run([health[0], "-c", "; ".join(elsewhere)], of="orchestrator-a")
    assert check.returncode == 1, check.stderr
    assert "no live orchestrator of this machine" in check.stderr


def test_no_service_was_denied_anything(composed: Composed) -> None:
    for service in SERVICES:
        log = composed.children[service].log()
        assert not re.search("NOPERM|[Nn]o permission", log), f"{service}:\n{log[-4000:]}"


def test_everything_stops_in_its_time_and_order(composed: Composed) -> None:
    for service in reversed(SERVICES):
        began = time.monotonic()
        assert composed.children[service].stop() == 0, service
        assert time.monotonic() - began < composed.machine.grace_seconds(service), service
