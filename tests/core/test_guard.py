"""Clock, chance and the outside are refused in an activation, and as ever outside of it."""

# ruff: noqa: TID251, DTZ003, DTZ005, DTZ011, SIM115 - what the guard is there to refuse

import asyncio
import datetime as datetime_module
import gc
import importlib
import io
import logging
import os
import pickle
import random
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import uuid
import warnings
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from random import randint
from time import monotonic
from typing import Any
from uuid import uuid4

import pytest

from orchestrator.core import context as workflow
from orchestrator.core import guard
from orchestrator.core.errors import ActivationFailed, ForbiddenInWorkflow
from tests.core.driver import Driver, kinds

Drive = Callable[..., Driver]

REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "time.time": (lambda: time.time(), "workflow.now"),
    "time.monotonic by name": (lambda: monotonic(), "workflow.now"),
    "time.sleep": (lambda: vars(time)["sleep"](0), "workflow.sleep"),
    "time.localtime": (lambda: time.localtime(), "workflow.now"),
    "time.strftime": (lambda: time.strftime("%Y"), "workflow.now"),
    "datetime.now": (lambda: datetime.now(), "workflow.now"),
    "datetime.utcnow": (lambda: datetime_module.datetime.utcnow(), "workflow.now"),
    "date.today": (lambda: date.today(), "workflow.now"),
    "random.random": (lambda: random.random(), "workflow.random"),
    "randint by name": (lambda: randint(1, 2), "workflow.random"),
    "random.Random": (lambda: random.Random(), "workflow.random"),
    "uuid.uuid4": (lambda: uuid.uuid4(), "workflow.uuid4"),
    "uuid4 by name": (lambda: uuid4(), "workflow.uuid4"),
    "os.urandom": (lambda: os.urandom(4), "workflow.random"),
    "secrets": (lambda: secrets.token_hex(), "workflow.step"),
    "open": (lambda: open(__file__), "workflow.step"),
    "Path.read_text": (lambda: Path(__file__).read_text(), "workflow.step"),
    "tempfile": (lambda: tempfile.TemporaryFile(), "."),
    "socket": (lambda: socket.socket(), "workflow.step"),
    "name look-up": (lambda: socket.getaddrinfo("localhost", 1), "workflow.step"),
    "subprocess": (lambda: subprocess.run(["true"], check=True), "workflow.step"),
    "os.system": (lambda: os.system("true"), "workflow.step"),
    "thread": (lambda: threading.Thread(target=print).start(), "asyncio.create_task"),
    "os.listdir": (lambda: os.listdir("."), "workflow.step"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_replay_could_not_repeat_is_refused_even_if_swallowed(name: str) -> None:
    reach, says = REFUSED[name]
    raised: list[Exception] = []

    async def reaching() -> str:
        try:
            reach()
        except Exception as error:
            raised.append(error)
        return "swallowed"

    with pytest.raises(ActivationFailed, match=says) as caught:
        Driver(reaching)
    assert caught.value.kind == "forbidden"
    assert "test_guard.py:" in caught.value.where
    assert isinstance(raised[0], ForbiddenInWorkflow)


ALLOWED: dict[str, Callable[[], object]] = {
    "an instant's local time": lambda: time.localtime(0),
    "a seeded generator": lambda: random.Random(7).random(),
    "constructing": lambda: datetime(2020, 1, 1, tzinfo=datetime_module.UTC) + timedelta(days=1),
    "parsing": lambda: datetime.fromisoformat("2020-01-01T00:00:00"),
    "of a timestamp": lambda: datetime.fromtimestamp(0, datetime_module.UTC),
    "a date": lambda: date(2020, 1, 1).isoformat(),
    "the environment": lambda: os.environ.get("HOME"),
    "memory": lambda: io.BytesIO(b"x").read(),
    "printing": lambda: print("x", file=io.StringIO()),
    "a warning": lambda: warnings.warn("careful", UserWarning, stacklevel=1),
    "a traceback": lambda: traceback.format_stack(),
    "logging": lambda: logging.getLogger("tests.guard").error("said"),
}


@pytest.mark.parametrize("name", ALLOWED)
@pytest.mark.filterwarnings("ignore:careful")
def test_what_replays_is_allowed(drive: Drive, name: str) -> None:
    async def reaching() -> None:
        ALLOWED[name]()

    assert kinds(drive(reaching).started) == ["RunCompleted"]


def test_an_import_inside_an_activation_works(drive: Drive) -> None:
    async def importing() -> None:
        sys.modules.pop("wave", None)
        importlib.import_module("wave")

    assert kinds(drive(importing).started) == ["RunCompleted"]


def test_a_log_handler_that_reads_the_clock_and_files_is_excused(
    drive: Drive, tmp_path: Path
) -> None:
    class Handler(logging.FileHandler):
        def emit(self, record: logging.LogRecord) -> None:
            record.msg = f"{uuid.uuid4()} {time.time()} {record.msg}"
            super().emit(record)

    handler = Handler(tmp_path / "log", delay=True)
    logger = logging.getLogger("tests.guard.file")
    logger.addHandler(handler)

    async def speaking() -> None:
        logger.error("said")

    try:
        assert kinds(drive(speaking).started) == ["RunCompleted"]
    finally:
        logger.removeHandler(handler)
        handler.close()
    assert "said" in (tmp_path / "log").read_text()


def test_a_finalizer_is_nobodys_doing(drive: Drive) -> None:
    class Resource:
        def __del__(self) -> None:
            time.time()

    async def dropping() -> None:
        resource = Resource()
        del resource

    assert kinds(drive(dropping).started) == ["RunCompleted"]


def test_what_listens_to_the_garbage_collector_is_nobodys_doing(drive: Drive) -> None:
    class Listener:
        heard = 0

        def __call__(self, phase: str, info: dict[str, int]) -> None:
            time.perf_counter()
            self.heard += 1

        def listen(self, phase: str, info: dict[str, int]) -> None:
            self(phase, info)

    def plainly(phase: str, info: dict[str, int]) -> None:
        time.perf_counter()

    async def littering() -> None:
        gc.collect()

    listener = Listener()
    added: list[Any] = [listener, listener.listen, plainly]
    gc.callbacks.extend(added)
    try:
        assert kinds(drive(littering).started) == ["RunCompleted"]
    finally:
        for each in added:
            gc.callbacks.remove(each)
    assert listener.heard >= 4, "twice at the begin and twice at the end of a collection"


def test_an_engine_that_an_import_started_is_guarded_all_the_same() -> None:
    async def reaching() -> None:
        time.time()

    importing = {"__name__": "importlib.anything", "activate": lambda: Driver(reaching)}
    with pytest.raises(ActivationFailed, match=r"workflow\.now"):
        exec("activate()", importing)


def test_outside_an_activation_everything_is_as_ever(drive: Drive) -> None:
    async def idle() -> None:
        await workflow.step("a")

    drive(idle)
    assert abs(time.time() - datetime.now(datetime_module.UTC).timestamp()) < 60
    assert date.today().year > 2000
    assert len(os.urandom(4)) == 4
    assert 0 <= random.random() < 1
    assert uuid.uuid4().version == 4
    assert random.Random().random() != random.Random().random()
    assert asyncio.run(asyncio.to_thread(time.monotonic)) > 0


def test_a_swapped_datetime_answers_like_the_real_one() -> None:
    real = type(datetime_module.datetime.fromtimestamp(0, datetime_module.UTC))
    guarded: dict[str, Any] = {"datetime": real, "date": real.__mro__[1]}
    guard.adopt(guarded)
    swapped, swapped_date = guarded["datetime"], guarded["date"]
    assert swapped is not real
    instant = swapped(2020, 1, 2, tzinfo=datetime_module.UTC)
    assert type(instant) is real
    assert isinstance(instant, swapped)
    assert isinstance(instant, swapped_date)
    assert issubclass(real, swapped)
    assert issubclass(swapped, real)
    assert issubclass(swapped, swapped_date)
    assert not isinstance(swapped_date(2020, 1, 1), swapped)
    assert {real: "found"}[swapped] == {swapped: "found"}[real] == "found"
    assert type(instant) == swapped  # noqa: E721 - the case under test
    assert type(swapped.strptime("2020", "%Y")) is real
    assert type(swapped.combine(swapped_date(2020, 1, 1), instant.timetz())) is real
    assert type(swapped.now(datetime_module.UTC)) is real
    assert pickle.loads(pickle.dumps(instant)) == instant
    match instant:
        case swapped():
            pass
        case _:
            pytest.fail("a class pattern asks isinstance")


def test_pydantic_takes_a_swapped_datetime_for_the_real_one() -> None:
    pydantic = pytest.importorskip("pydantic")
    names: dict[str, Any] = {
        "datetime": type(datetime_module.datetime.fromtimestamp(0, datetime_module.UTC))
    }
    guard.adopt(names)
    adapter = pydantic.TypeAdapter(names["datetime"])
    value = adapter.validate_python("2020-01-01T00:00:00Z")
    assert value == names["datetime"](2020, 1, 1, tzinfo=datetime_module.UTC)
    assert adapter.json_schema() == {"type": "string", "format": "date-time"}


def test_a_default_drawn_by_chance_in_a_model_is_refused() -> None:
    pydantic = pytest.importorskip("pydantic")
    model = pydantic.create_model(
        "Model", id=(uuid.UUID, pydantic.Field(default_factory=uuid.uuid4))
    )

    async def constructing() -> None:
        model()

    with pytest.raises(ActivationFailed, match=r"workflow\.uuid4"):
        Driver(constructing)


def test_a_query_must_not_read_the_clock_either(drive: Drive) -> None:
    async def waiting() -> None:
        workflow.on_query("age")(lambda: time.time())
        await workflow.step("a")

    run = drive(waiting)
    with pytest.raises(ForbiddenInWorkflow):
        run.execution.query("age", [])


def test_another_thread_is_left_alone_while_a_workflow_is_activated(drive: Drive) -> None:
    asked, answered = threading.Event(), threading.Event()
    results: list[float] = []

    def other() -> None:
        asked.wait(10)
        results.append(time.time())
        answered.set()

    thread = threading.Thread(target=other)
    thread.start()

    async def meanwhile() -> None:
        asked.set()
        answered.wait(10)

    drive(meanwhile)
    thread.join()
    assert len(results) == 1


def test_install_twice_changes_nothing() -> None:
    before = time.time
    guard.install()
    assert time.time is before


def test_what_is_refused_is_told_by_name_for_those_who_read_source() -> None:
    refused = guard.refused_calls()
    assert refused["time.time"] == "use workflow.now() or workflow.time()"
    assert {"random.choice", "uuid.uuid4", "os.urandom", "time.localtime", "open"} <= set(refused)
    assert all(refused.values())
