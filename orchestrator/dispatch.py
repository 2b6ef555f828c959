"""Attempts into Celery messages.

DP1  A message has the headers and properties that the installed Celery and kombu would give it,
     plus ours, so that an unmodified worker runs it.
DP2  The same attempt gives the same task id, whatever is sent again.
DP3  No eta, no countdown, no expiry, no Celery retry: time belongs to the log.
DP4  Its root is the run.  So is its parent, unless it undoes a step: then that is the parent, for
     Celery's monitors to link the two.

The envelope is put together as text from a template per task and queue: through kombu one message
costs about 0.4 ms, and the owner builds one per step.
"""

import base64
import json
import secrets
from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as text
from typing import Any

from celery import Celery
from kombu.entity import Exchange
from kombu.exceptions import KombuError

from orchestrator.core.errors import ConfigurationError, StoreUnavailable
from orchestrator.engine.ports import Outgoing
from orchestrator.store.ports import Message
from orchestrator.worker.header import HEADER, encode_arguments, write_header

_REPR_CHARS_MAX = 120
_SEALED = "(sealed)"
#: Placeholders of a template, in the order in which they stand in the envelope.
_HOLES = tuple(
    f"@{name}" for name in ("id", "root", "parent", "args", "kwargs", "orc", "correlation", "tag")
)


@dataclass(frozen=True, slots=True)
class _Template:
    """An envelope in pieces: between two of them goes one variable part, as JSON."""

    queue: str
    pieces: tuple[str, ...]


class CeleryDispatcher:
    """See `engine.ports.Dispatcher`.  Routes as the app does; nothing is cached across forks.

    `Message.queue` is the broker's own list, with prefix and priority, where the broker is a Redis.

    Args:
        app: The app whose tasks the steps are.
        seal: What becomes of arguments on their way; monitors are shown nothing of them then.
    """

    def __init__(self, app: Celery, *, seal: Callable[[str], str] | None = None) -> None:
        self._app = app
        self._seal = seal
        self._templates: dict[tuple[str, str | None, int | None], _Template] = {}

    def queue_of(self, task: str, queue: str | None) -> str:
        """Return the queue that attempts at `task` go to, where a step names `queue` or none.

        Raises:
            ConfigurationError: See `message`.
        """
        return self._queue_of(task, self._options_of(task, queue, None))[0]

    def message(self, outgoing: Outgoing) -> Message:
        """See `Dispatcher.message`.

        Raises:
            ConfigurationError: The task is routed to something that is not a queue of ours.
        """
        place = (outgoing.task, outgoing.queue, outgoing.priority)
        template = self._templates.get(place)
        if template is None:
            template = self._templates[place] = self._template_of(*place)
        arguments = encode_arguments(outgoing)
        task_id = text(str(outgoing.key))
        run = str(outgoing.key.run_key)
        # The first attempt is the one that every step has.
        parent = f"{outgoing.compensates}.1" if outgoing.compensates else run
        shown = arguments if self._seal is None else (_SEALED, _SEALED)
        header = write_header(outgoing, arguments, self._seal or str)
        piece = template.pieces
        body = "".join(
            (
                *(piece[0], task_id, piece[1], text(run), piece[2], text(parent)),
                *(piece[3], text(_short(shown[0])), piece[4], text(_short(shown[1]))),
                *(piece[5], header, piece[6], task_id),
                *(piece[7], text(secrets.token_hex(16)), piece[8]),
            )
        )
        return Message(queue=template.queue, body=body.encode())

    def publish(self, messages: Sequence[Message]) -> None:
        """See `Dispatcher.publish`."""
        try:
            with self._app.producer_pool.acquire(block=True) as producer:
                for message in messages:
                    self._publish_one(producer, json.loads(message.body))
        except self._broker_errors() as error:
            raise StoreUnavailable("publishing to the broker", type(error).__name__) from error

    def _publish_one(self, producer: Any, envelope: dict[str, Any]) -> None:
        properties = envelope["properties"]
        queue = self._app.amqp.queues[properties["delivery_info"]["routing_key"]]
        producer.publish(
            _BODY,
            routing_key=queue.name,
            exchange="",
            declare=[queue],
            retry=False,
            headers=envelope["headers"],
            content_type=envelope["content-type"],
            content_encoding=envelope["content-encoding"],
            delivery_mode=properties["delivery_mode"],
            correlation_id=properties["correlation_id"],
            reply_to=properties["reply_to"],
            **({"priority": properties["priority"]} if properties["priority"] else {}),
        )

    def _broker_errors(self) -> tuple[type[Exception], ...]:
        transport = self._app.connection_for_write().transport
        return (KombuError, OSError, *transport.connection_errors, *transport.channel_errors)

    def _template_of(self, task: str, queue: str | None, priority: int | None) -> _Template:
        options = self._options_of(task, queue, priority)
        name, delivery_mode = self._queue_of(task, options)
        priority = int(options.get("priority") or 0)
        message = self._app.amqp.as_task_v2(
            "@id", task, root_id="@root", parent_id="@parent", ignore_result=True,
            argsrepr="@args", kwargsrepr="@kwargs",
        )  # fmt: skip
        envelope = {
            "body": _BODY_BASE64,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {**message.headers, HEADER: "@orc"},
            "properties": {
                "correlation_id": "@correlation",
                "reply_to": "",
                "delivery_mode": delivery_mode,
                "delivery_info": {"exchange": "", "routing_key": name},
                "priority": priority,
                "body_encoding": "base64",
                "delivery_tag": "@tag",
            },
        }
        return _Template(self._list_of(name, priority), _cut(json.dumps(envelope)))

    def _options_of(self, task: str, queue: str | None, priority: int | None) -> dict[str, Any]:
        registered = self._app.tasks.get(task)
        options: dict[str, Any] = dict(registered._get_exec_options()) if registered else {}
        if priority is None and options.get("priority") is None:
            priority = self._app.conf.task_default_priority
        if queue is not None:
            options = {"queue": queue, "priority": options.get("priority")}
        if priority is not None:
            options["priority"] = priority
        routed = self._app.amqp.router.route(options, task, (), {}, registered)
        return dict(routed)

    def _queue_of(self, task: str, options: Mapping[str, Any]) -> tuple[str, int]:
        queue = options.get("queue") or self._bound_queue(options)
        if queue is None:
            raise ConfigurationError(
                f"route of task {task}",
                f"exchange {options.get('exchange')!r}, routing key {options.get('routing_key')!r}",
                "route it to a queue of task_queues",
            )
        if queue.exchange is not None and queue.exchange.type == "fanout":
            raise ConfigurationError(
                f"route of task {task}", f"broadcast queue {queue.name!r}", "a step runs once"
            )
        mode = options.get("delivery_mode") or getattr(queue.exchange, "delivery_mode", None)
        return str(queue.name), _delivery_mode(mode or self._app.conf.task_default_delivery_mode)

    def _bound_queue(self, options: Mapping[str, Any]) -> Any:
        exchange = options.get("exchange")
        name = exchange.name if isinstance(exchange, Exchange) else exchange
        for queue in self._app.amqp.queues.values():
            if queue.exchange.name == name and queue.routing_key == options.get("routing_key"):
                return queue
        return None

    def _list_of(self, queue: str, priority: int) -> str:
        if self._app.connection_for_write().transport.driver_type != "redis":
            return queue
        settings = self._app.conf.broker_transport_options or {}
        steps = settings.get("priority_steps") or (0, 3, 6, 9)
        step = steps[bisect(steps, min(max(priority, 0), 9)) - 1]
        suffix = f"{settings.get('sep', chr(6) + chr(22))}{step}" if step else ""
        return f"{settings.get('global_keyprefix', '')}{queue}{suffix}"


#: Celery's own part of the message: no arguments, no callbacks.
_BODY = '[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
_BODY_BASE64 = base64.b64encode(_BODY.encode()).decode()


def _cut(envelope: str) -> tuple[str, ...]:
    pieces = []
    for hole in _HOLES:
        piece, found, envelope = envelope.partition(f'"{hole}"')
        assert found, f"{hole} is not where this version of Celery used to have it"
        pieces.append(piece)
    return (*pieces, envelope)


def _delivery_mode(mode: Any) -> int:
    return {"transient": 1, "persistent": 2}.get(mode, mode if mode in (1, 2) else 2)


def _short(arguments: str) -> str:
    return arguments if len(arguments) <= _REPR_CHARS_MAX else f"{arguments[:_REPR_CHARS_MAX]}…"
