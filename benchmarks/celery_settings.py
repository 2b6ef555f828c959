"""What the Celery apps of both sides have in common, so that neither is set up to lose."""

import os

#: The server of this round; the benchmark sets it for every process it starts.
URL = os.environ.get("BENCHMARK_URL", "redis://127.0.0.1:6379/0")

SETTINGS = {
    "task_serializer": "json",
    "result_serializer": "json",
    "accept_content": ["json"],
    "broker_connection_retry_on_startup": True,
    "worker_hijack_root_logger": False,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
}
