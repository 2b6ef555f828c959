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
from typing import TYPE_CHECKING

import click
from celery.bin.base import CeleryCommand, handle_preload_options

from orchestrator.cli.app import orchestrator_of
from orchestrator.cli.errors import refusal_of, worded
from orchestrator.client.address import broker_url, without_password
from orchestrator.core.errors import ConfigurationError, OrchestratorError

if TYPE_CHECKING:
    from orchestrator.metrics import PrometheusObserver

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
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65_535),
    help="Serve metrics for Prometheus there; 0 takes a free port.  Else none are kept.",
)
@click.option(
    "--metrics-host", default="127.0.0.1", show_default=True, help="Where they are served."
)
@click.pass_context
@handle_preload_options
@worded
def orchestrator(
    ctx: click.Context,
    *,
    loglevel: str,
    logfile: str | None,
    metrics_port: int | None,
    metrics_host: str,
) -> None:
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
    with metrics_served(metrics_host, metrics_port) as observer, stop_on_signals() as stop:
        engine = found.engine(observer=observer)
        try:
            engine.run(stop)
        except ConfigurationError:
            raise
        except OrchestratorError as error:
            # The engine waits out whatever it can: this is a bug, and its place is wanted.
            logger.exception("the orchestrator ends")
            raise refusal_of(error) from error


@contextlib.contextmanager
def metrics_served(host: str, port: int | None) -> "Iterator[PrometheusObserver | None]":
    """Yield what keeps metrics, and serve them until the end; None where no port is given.

    Raises:
        ConfigurationError: prometheus-client is not installed, or the port cannot be had.
    """
    if port is None:
        yield None
        return
    # Not before: it needs a package that is optional.
    from orchestrator.metrics import PrometheusObserver, serve

    observer = PrometheusObserver()
    with serve(observer, host, port) as bound:
        logger.info("metrics: http://%s:%d/metrics", host, bound)
        yield observer


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
