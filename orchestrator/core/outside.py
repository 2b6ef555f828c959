"""What an event loop offers beyond time and order: all of it reaches outside, and is refused."""

from collections.abc import Callable
from typing import Any, TypeVar

_Class = TypeVar("_Class", bound=type)

_STEP = "let a step do it: await workflow.step(task, …)"
_REFUSED = {
    "run_in_executor": "for a function that takes milliseconds use workflow.step(f, local=True)",
    "set_default_executor": "for a function of milliseconds use workflow.step(f, local=True)",
    "shutdown_default_executor": "there is no executor here",
    "shutdown_asyncgens": "generators are closed when the run ends",
    "run_forever": "await instead",
    "run_until_complete": "await instead",
    "stop": "return from the workflow instead",
    "close": "return from the workflow instead",
    "set_exception_handler": "await the task, and handle its exception there",
    "default_exception_handler": "await the task, and handle its exception there",
    "set_task_factory": "wrap the coroutine instead",
    "add_signal_handler": "use workflow.on_signal for messages to the run",
    "remove_signal_handler": "use workflow.on_signal for messages to the run",
    **dict.fromkeys(
        (
            *("add_reader", "remove_reader", "add_writer", "remove_writer"),
            *("sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into"),
            *("sock_sendall", "sock_sendto", "sock_connect", "sock_accept", "sock_sendfile"),
            *("getaddrinfo", "getnameinfo", "create_connection", "create_server"),
            *("create_unix_connection", "create_unix_server", "create_datagram_endpoint"),
            *("connect_accepted_socket", "sendfile", "start_tls"),
            *("connect_read_pipe", "connect_write_pipe", "subprocess_shell", "subprocess_exec"),
        ),
        _STEP,
    ),
}


def refusing_outside(loop: _Class) -> _Class:
    """Give the class of an event loop methods that refuse, through its `host`."""
    for name, instead in _REFUSED.items():
        setattr(loop, name, _refusing(name, instead))
    return loop


def _refusing(name: str, instead: str) -> Callable[..., None]:
    def refuse(self: Any, *_args: object, **_kwargs: object) -> None:
        self.host.refuse(f"loop.{name}()", instead)

    refuse.__name__ = name
    return refuse
