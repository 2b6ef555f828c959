"""``celery -A … orchestrator``: the engine's process.

Start as many as you like, on as many machines: they share the partitions.  SIGTERM and Ctrl-C hand
over at once; a second one ends the process on the spot, and others take over when its leases end.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

import click
from celery.bin.base import CeleryCommand, handle_preload_options

from orchestrator.cli.app import orchestrator_of
from orchestrator.cli.errors import refusal_of, worded
from orchestrator.client.address import broker_url, without_password
from orchestrator.core.errors import ConfigurationError, OrchestratorError

logger = logging.getLogger("orchestrator")

LOG_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@click.command(name="orchestrator", cls=CeleryCommand)
@click.option(
    "-l",
    "--loglevel",
    default="INFO",
    show_default=True,
    type=click.Choice(_LEVELS, case_sensitive=False),
)
@click.option("-f", "--logfile", type=click.Path(dir_okay=False), help="Else standard error.")
@click.pass_context
@handle_preload_options
@worded
def orchestrator(ctx: click.Context, *, loglevel: str, logfile: str | None) -> None:
    """Run an orchestrator: it turns what arrives for workflows into history and steps."""
    if not __debug__:
        raise ConfigurationError(
            "python -O", "assertions are off", "they guard histories: leave -O"
        )
    logging.basicConfig(
        level=loglevel.upper(),
        format=LOG_FORMAT,
        **({"filename": logfile} if logfile else {"stream": sys.stderr}),
    )
    found = orchestrator_of(ctx.obj.app)
    logger.info(
        "store %s, broker %s (%s); workflows: %s",
        without_password(found.store_url),
        without_password(broker_url(found.app.conf)),
        "the same place" if found.sends_directly else "by the outbox",
        ", ".join(sorted(found.registry)) or "none",
    )
    engine = found.engine()
    with stop_on_signals() as stop:
        try:
            engine.run(stop)
        except ConfigurationError:
            raise
        except OrchestratorError as error:
            # The engine waits out whatever it can: this is a bug, and its place is wanted.
            logger.exception("the orchestrator ends")
            raise refusal_of(error) from error


@contextlib.contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM or SIGINT sets; a second one of them acts as it always does.

    The handler itself only writes a byte: it runs in the main thread, which may hold the event's
    lock at that moment, and would wait for itself.
    """
    stop = threading.Event()
    reader, writer = os.pipe()

    def on_signal(number: int, frame: FrameType | None) -> None:
        for each in _STOP_SIGNALS:
            signal.signal(each, before[each])
        os.write(writer, b"!")

    def wait_for_byte() -> None:
        if os.read(reader, 1) == b"!":
            logger.info("stopping: handing over")
            stop.set()

    watcher = threading.Thread(target=wait_for_byte, name="stop-on-signals", daemon=True)
    watcher.start()
    before = {each: signal.signal(each, on_signal) for each in _STOP_SIGNALS}
    try:
        yield stop
    finally:
        for each in _STOP_SIGNALS:
            signal.signal(each, before[each])
        os.close(writer)
        watcher.join()
        os.close(reader)
