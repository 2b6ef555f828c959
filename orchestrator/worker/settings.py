"""Celery settings that suit steps, and those that hurt them."""

from collections.abc import Mapping
from typing import Any


def recommended_settings() -> dict[str, Any]:
    """Return Celery settings for workers that run steps; ``app.conf.update`` takes them.

    The broker need not redeliver anything, because claims and the log do; so messages are
    acknowledged early, and nothing waits in a worker that another one could run.
    """
    return {
        "broker_connection_retry_on_startup": True,
        # The default gives up after 100 tries, and the worker with it.
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            "visibility_timeout": 86_400,
            "socket_timeout": 15,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 15,
        },
        "task_acks_late": False,
        "task_reject_on_worker_lost": False,
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        # A message that waits behind a long step could run elsewhere.
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
    }


def find_harmful(conf: Mapping[str, Any], *, is_redis: bool) -> list[str]:
    """Return one line for each setting of `conf` that hurts steps: what it does, what to set."""
    found = []
    if conf.get("worker_cancel_long_running_tasks_on_connection_loss"):
        found.append(
            "worker_cancel_long_running_tasks_on_connection_loss ends running steps whenever the "
            "broker is away; set it to False"
        )
    accepted = {str(content).lower() for content in conf.get("accept_content") or ()}
    if accepted & {"pickle", "application/x-python-serialize"}:
        found.append(
            "accept_content allows pickle: whoever can write to the broker can run code here; "
            "set it to ['json']"
        )
    if not accepted & {"json", "application/json"}:
        found.append("accept_content lacks json, so no step's message is accepted; add it")
    if conf.get("task_always_eager"):
        found.append("task_always_eager runs tasks where they are called; set it to False")
    if conf.get("task_reject_on_worker_lost"):
        found.append(
            "task_reject_on_worker_lost sends the message of a killed step round and round; "
            "set it to False, the step's retry policy decides"
        )
    prefetch = conf.get("worker_prefetch_multiplier")
    is_disabled = bool(conf.get("worker_disable_prefetch")) and is_redis
    if not is_disabled and (prefetch == 0 or (isinstance(prefetch, int) and prefetch > 1)):
        found.append(
            f"worker_prefetch_multiplier is {prefetch}: steps wait behind long ones while other "
            "workers are idle; set it to 1"
            + (", or worker_disable_prefetch to True" if is_redis else "")
        )
    return found
