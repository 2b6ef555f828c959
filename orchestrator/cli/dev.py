"""Everything on one machine: a server if none answers, a worker and an orchestrator.

What it starts lives on the addresses that the app itself names, so that every other command finds
it without further ado.
"""

import contextlib
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import click
from celery import Celery
from celery.app.utils import find_app

from orchestrator.cli.app import orchestrator_of
from orchestrator.cli.children import Child
from orchestrator.cli.errors import EXIT_NO, EXIT_WRONG, Refusal
from orchestrator.cli.process import stop_on_signals
from orchestrator.client.address import broker_url, host_and_port, without_password
from orchestrator.embedded import EmbeddedServer

#: Where the embedded server keeps its data, below the current directory.
DATA_DIRECTORY = Path(".orchestrator/valkey")
_LOOK_S = 0.2
_CONNECT_S = 1.0
_LOOPBACK = ("127.0.0.1", "::1")


def run(app_name: str, *, concurrency: int, orchestrators: int, loglevel: str) -> None:
    """Run everything until a signal comes; then stop it in order.

    Raises:
        Refusal: The app cannot be loaded, nobody answers at its broker and we cannot be it, or a
            program keeps dying.
    """
    app = _load(app_name)
    # Fails here, in one line, rather than in each child.
    found = orchestrator_of(app)
    with stop_on_signals() as stop, contextlib.ExitStack() as running:
        server = running.enter_context(_server_for(broker_url(app.conf)))
        children = _children(
            app_name, concurrency=concurrency, orchestrators=orchestrators, loglevel=loglevel
        )
        # Last in, first out: workers go before orchestrators, and the server is the last.
        for child in children:
            running.callback(child.stop)
            child.start()
        _say(f"workflows: {', '.join(sorted(found.registry)) or 'none'}; Ctrl-C stops everything")
        while not stop.wait(_LOOK_S):
            if server is not None and not server.is_running:
                _say("the server has ended; it starts again, with what it had")
                server.stop()  # lets go of what is left of it
                server.start()
            if not all([child.watch() for child in children]):  # noqa: C419 - watch every one
                raise Refusal("a program keeps ending; its lines above tell why", EXIT_NO)
        _say("stopping")


def _children(
    app_name: str, *, concurrency: int, orchestrators: int, loglevel: str
) -> Sequence[Child]:
    celery = [sys.executable, "-m", "celery", "-A", app_name]
    worker = [*celery, "worker", "--concurrency", str(concurrency), "--loglevel", loglevel]
    names = ["orchestrator"] + [f"orchestrator{n}" for n in range(2, orchestrators + 1)]
    return [
        *(Child(name, "magenta", [*celery, "orchestrator", "-l", loglevel]) for name in names),
        Child("worker", "green", worker),
    ]


def _load(app_name: str) -> Celery:
    # Celery's own loader looks into the current directory, too.
    try:
        app = find_app(app_name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise Refusal(f"no Celery app in {app_name!r}: {error}", EXIT_WRONG) from error
    if not isinstance(app, Celery):
        raise Refusal(f"{app_name!r} is no Celery app", EXIT_WRONG)
    return app


@contextlib.contextmanager
def _server_for(url: str) -> Iterator[EmbeddedServer | None]:
    """Yield a server at `url`, or None where somebody answers there already."""
    address = host_and_port(url)
    if address is None:
        _say(f"broker {without_password(url)}: expected to run")
        yield None
    elif _answers(address):
        _say(f"broker {without_password(url)}: somebody answers there")
        yield None
    else:
        _check_ours(url, address[0])
        with EmbeddedServer(DATA_DIRECTORY, port=address[1]) as server:
            _say(f"embedded Valkey at {server.url}, data in {DATA_DIRECTORY}")
            yield server


def _check_ours(url: str, host: str) -> None:
    parts = urlsplit(url)
    if host not in _LOOPBACK:
        raise Refusal(f"nobody answers at the app's broker, {without_password(url)}", EXIT_NO)
    if parts.scheme != "redis" or parts.password is not None:
        raise Refusal(
            f"nobody answers at {without_password(url)}, and the embedded server takes neither "
            f"TLS nor a password",
            EXIT_WRONG,
        )


def _answers(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, timeout=_CONNECT_S):
            return True
    except OSError:
        return False


def _say(text: str) -> None:
    click.echo(f"{click.style('         dev |', fg='cyan')} {text}")
