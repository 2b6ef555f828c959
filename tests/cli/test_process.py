"""``celery -A … orchestrator`` runs until it is told to stop, and says in a line what is wrong."""

import signal
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.cli.stack import CELERY, needs_entry_points, run, running
from tests.servers import valkey_server, valkey_url

__all__ = ["valkey_server", "valkey_url"]

pytestmark = [pytest.mark.redis, pytest.mark.slow]


@pytest.fixture(autouse=True)
def _installed() -> None:
    needs_entry_points()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_orchestrator_drives_a_run_and_hands_over_when_it_is_stopped(
    valkey_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    with running([*CELERY, "orchestrator"], broker=valkey_url, cwd=tmp_path) as orchestrator:
        orchestrator.wait_for("owns 16 partitions")
        started = run(
            "workflow", "start", "waiting", "--id", "w-1", broker=valkey_url, cwd=tmp_path
        )
        assert (started.returncode, started.stdout) == (0, "w-1\n")
        sent = run("workflow", "signal", "w-1", "go", "42", broker=valkey_url, cwd=tmp_path)
        assert sent.returncode == 0, sent.stderr
        orchestrator.wait_for(r"w-1\.1 completed")
        orchestrator.process.send_signal(number)
        assert "handed over" in orchestrator.rest()
        assert orchestrator.process.wait() == 0
    shown = run("workflow", "show", "w-1", broker=valkey_url, cwd=tmp_path)
    assert "RunCompleted" in shown.stdout
    assert "verified" in shown.stdout


def test_metrics_are_served_on_this_machine_while_it_runs(valkey_url: str, tmp_path: Path) -> None:
    words = [*CELERY, "orchestrator", "--metrics-port", "0"]
    with running(words, broker=valkey_url, cwd=tmp_path) as orchestrator:
        line = orchestrator.wait_for(r"metrics: http://127\.0\.0\.1:\d+/metrics")
        url = line.split("metrics: ")[1].split()[0]
        orchestrator.wait_for("owns 16 partitions")
        run("workflow", "start", "waiting", "--id", "m-1", broker=valkey_url, cwd=tmp_path)
        run("workflow", "signal", "m-1", "go", "42", broker=valkey_url, cwd=tmp_path)
        orchestrator.wait_for(r"m-1\.1 completed")
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        assert 'orchestrator_workflow_completed_total{workflow_type="waiting"} 1.0' in text
        assert "orchestrator_partitions 16.0" in text
        orchestrator.process.send_signal(signal.SIGTERM)
        assert "handed over" in orchestrator.rest()
        assert orchestrator.process.wait() == 0


def test_log_tells_no_password_and_no_payload(valkey_url: str, tmp_path: Path) -> None:
    secret = valkey_url.replace("redis://", "redis://default:hunter2@")
    with running([*CELERY, "orchestrator"], broker=secret, cwd=tmp_path) as orchestrator:
        first = orchestrator.wait_for("store redis://")
        orchestrator.process.send_signal(signal.SIGTERM)
        text = first + orchestrator.rest()
    assert "default:***@" in text
    assert "hunter2" not in text


def test_broker_that_keeps_no_histories_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = run("orchestrator", broker="amqp://127.0.0.1:1", cwd=tmp_path)
    assert done.returncode == 2
    assert "error: store: found a broker of kind 'amqp'" in done.stderr
    assert "Traceback" not in done.stderr


def test_store_that_does_not_answer_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    done = run("workflow", "list", broker="redis://127.0.0.1:1/0", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "no answer from the store" in done.stderr
    assert "Traceback" not in done.stderr


def test_orchestrator_without_assertions_refuses_to_start(tmp_path: Path) -> None:
    optimised = [sys.executable, "-O", *CELERY[1:], "orchestrator"]
    with running(optimised, broker="redis://127.0.0.1:1/0", cwd=tmp_path) as orchestrator:
        assert "error: python -O: found assertions are off" in orchestrator.rest()
        assert orchestrator.process.wait() == 2
