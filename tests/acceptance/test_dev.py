"""Promise: ``orchestrator dev`` is a whole stack on one machine, and leaves nothing behind."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator import WorkflowFailed
from sagas.order import Order
from tasks.faults import Mode, set_switch
from tests.acceptance import app as tested
from tests.acceptance.child import ROOT, Child, processes_with
from tests.acceptance.stack import APP, client_of
from tests.acceptance.waiting import eventually


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """What `dev` is given; its processes are found by the directory in it, and gone afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    monkeypatch.setenv("SHOP_DATABASE_URL", f"sqlite:///{tmp_path}/shop.db")
    yield {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "CELERY_BROKER_URL": f"redis://127.0.0.1:{port}/0",
        tested.PLACE: str(tmp_path),
    }
    for pid in processes_with(str(tmp_path)):
        with suppress(ProcessLookupError):  # it ended by itself
            os.kill(pid, signal.SIGKILL)


def test_dev_serves_an_order_and_ctrl_c_leaves_no_process(
    environment: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "orchestrator.cli.main", "dev", "-A", APP, "-c", "1"]
    dev = Child("dev", command, environment, tmp_path, cwd=tmp_path)
    dev.wait_for_log(" ready.")
    set_switch("ship", Mode.REFUSE, order_id="local")
    order = Order(id="local", total=Decimal(12))
    handle = (
        client_of(environment["CELERY_BROKER_URL"]).get_workflow("order").start(order, id="local")
    )
    with pytest.raises(WorkflowFailed):
        handle.result(timeout=30)
    assert handle.state()["status"] == "failed"
    assert handle.verify()
    assert len(processes_with(str(tmp_path))) >= 4, "dev, Valkey, a worker and an orchestrator"
    dev.signal(signal.SIGINT)
    assert dev.wait() == 0
    eventually(lambda: not processes_with(str(tmp_path)), "no process is left", seconds=5)
    assert (tmp_path / ".orchestrator" / "valkey" / "appendonlydir").is_dir(), "the data stays"
