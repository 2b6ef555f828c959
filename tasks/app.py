"""The shop's Celery app.  Time-outs and retries belong to the workflow's log, not to the broker."""

import os
from importlib.util import find_spec

from celery import Celery

#: The training's tasks need its libraries: pip install 'celery-orchestrator[training]'.
TRAINS = all(find_spec(name) is not None for name in ("numpy", "threadpoolctl"))

app = Celery(
    "shop",
    broker=os.environ.get("CELERY_BROKER_URL", "redis://127.0.0.1:6379/0"),
    include=[
        *("tasks.inventory", "tasks.payment", "tasks.shipping", "tasks.notification"),
        *(["tasks.training"] if TRAINS else []),
    ],
)

app.conf.update(
    # JSON and nothing else: a message that can run code when it is read has no place here.
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    # The log has the results.
    task_ignore_result=True,
    # A message is a hint: a lost one is sent again, and a step whose worker died is attempted
    # again, from the log.  Redelivery by the broker would only add copies that are refused.
    task_acks_late=False,
    task_reject_on_worker_lost=False,
    # One message at a time: a step that waits behind a long one should go to another worker.
    worker_prefetch_multiplier=1,
    # True would acknowledge, and so lose, running tasks when broker and results share a Redis
    # that restarts.
    worker_cancel_long_running_tasks_on_connection_loss=False,
    # Steps have their own, shorter time-outs.  A compensation has none: a worker child that hangs
    # in one is killed, and it is attempted again.  Seconds.
    task_time_limit=60,
    worker_send_task_events=True,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        "visibility_timeout": 86_400,
        # No retry_on_timeout: a push that is repeated after a lost answer is a second message.
        "socket_timeout": 15,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 15,
    },
)
