"""Signals to one run that continues as new all the time: none lost, none twice, none out of order.

Senders, each a thread with a client of its own, send numbered signals at a rate.  The workflow
compares each number with the one before of the same sender, and carries what it has seen from run
to run, so that its result tells what became of all of them.
"""

import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from celery import Celery

from benchmarks.crew import Crew, crew_on_server, line
from benchmarks.signals_app import nothing_taken, orc
from benchmarks.steps import server_version, surroundings
from orchestrator import Orchestrator, RunHandle

APP = "benchmarks.signals_app"
#: How often the rest in the inbox is looked at.
_LOOK_S = 0.25
_END_S_MAX = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalsSettings:
    """What is sent: `rate` signals a second by all senders together, for so long."""

    rate: int = 1_000
    seconds: float = 30.0
    senders: int = 4
    per_run: int = 500
    take: str = "awaiting"


@dataclass(slots=True)
class Sent:
    """What became of the sending: how many by sender, and how long it took."""

    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    waiting_max: int = 0


def measure_signals(settings: SignalsSettings) -> Iterator[dict[str, Any]]:
    """Yield lines: the rate reached, the lag at the end, and what was lost, twice or misplaced."""
    with crew_on_server() as crew:
        server = surroundings(server_version(crew.url))
        process = crew.spawn(
            "celery", "--quiet", "-A", APP, "orchestrator", "--loglevel", "WARNING"
        )
        crew.wait_for_owners(process)
        client = client_of(crew.url)
        try:
            handle = client.get_workflow(settings.take).start(
                nothing_taken(), settings.per_run, id="numbers"
            )
            sent = send(crew, handle, settings)
            ended = time.monotonic()
            handle.signal("number", ["", 0])
            taken, runs = handle.result(timeout=_END_S_MAX)
            lag_s = time.monotonic() - ended
        finally:
            client.close()
    total = sum(sent.counts.values())
    said = {**asdict(settings), **server}
    yield line("signals.sent", total / sent.seconds, "signals/s", **said, sent=total)
    yield line("signals.lag_at_end", lag_s, "s", **said, inbox_max=sent.waiting_max)
    yield line("signals.runs", runs, "runs", **said)
    yield line("signals.missing", total - int(taken["count"]), "signals", **said)
    yield line("signals.wrong", len(mistakes(sent, taken)), "signals", **said)
    for mistake in mistakes(sent, taken):
        print(mistake, file=sys.stderr)


def mistakes(sent: Sent, taken: dict[str, Any]) -> list[str]:
    """Return in words what was taken otherwise than sent."""
    found = [f"sender {sender}: wanted {want}, found {got}" for sender, want, got in taken["wrong"]]
    for sender, count in sent.counts.items():
        if count and taken["last"].get(sender) != count:
            found.append(f"sender {sender}: sent {count}, last taken {taken['last'].get(sender)}")
    return found


def client_of(url: str) -> Orchestrator:
    """Return a client of its own on the benchmark's server."""
    client = Orchestrator(Celery("client", broker=url, set_as_current=False))
    for name in orc.registry:
        client.workflow(name=name)(orc.get_workflow(name).__wrapped__)  # type: ignore[attr-defined]
    return client


def send(crew: Crew, handle: RunHandle[Any], settings: SignalsSettings) -> Sent:
    """Send at the wanted rate until the time is over; return what was sent."""
    sent = Sent(counts={f"s{index}": 0 for index in range(settings.senders)})
    began = time.monotonic()
    threads = [
        threading.Thread(target=_send_as, args=(crew.url, sender, handle.id, settings, sent, began))
        for sender in sent.counts
    ]
    for thread in threads:
        thread.start()
    inbox = crew.keys.inbox(crew.keys.of_workflow(handle.id))
    while any(thread.is_alive() for thread in threads):
        sent.waiting_max = max(sent.waiting_max, crew.redis.xlen(inbox))
        time.sleep(_LOOK_S)
    for thread in threads:
        thread.join()
    sent.seconds = time.monotonic() - began
    return sent


def _send_as(
    url: str, sender: str, id: str, settings: SignalsSettings, sent: Sent, began: float
) -> None:
    pause_s = settings.senders / settings.rate
    client = client_of(url)
    try:
        handle = client.run(id)
        number = 0
        while (now := time.monotonic()) < began + settings.seconds:
            due = began + number * pause_s
            if now < due:
                time.sleep(due - now)
                continue
            number += 1
            handle.signal("number", [sender, number], id=f"{sender}-{number}")
            sent.counts[sender] = number
    finally:
        client.close()
