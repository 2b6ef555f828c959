"""Records the histories that are kept here: ``python -m tests.histories.record [NAME…]``.

H1  Only missing ones are recorded.  A history that no longer replays is a breaking change for
    everybody's running workflows: it is mended by a patch in the code, never by recording anew.
H2  The engine is the real one, in memory, with a clock by hand; an order's tasks answer what a test
    says, those of a training train.
"""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.client.exporting import export_file
from orchestrator.client.messages import Target
from orchestrator.client.port import Bridged, in_place, pause_in_place, run_in_place
from orchestrator.client.session import Session
from orchestrator.core import guard
from orchestrator.core.values import Json
from orchestrator.payloads import PydanticCodec
from orchestrator.store.ports import Kind
from tests.engine.world import World
from tests.histories import zoo

HERE = Path(__file__).parent
DAY_MS = 86_400_000
Recording = Callable[[], World]
#: What records a history, and the id of the run that is kept of it; by the history's name.
RECORDINGS: dict[str, tuple[Recording, str]] = {}


def recording(name: str, id: str = "w") -> Callable[[Recording], Recording]:
    """Register what records a history."""

    def register(record: Recording) -> Recording:
        RECORDINGS[name] = record, id
        return record

    return register


def main(names: list[str]) -> int:
    """Record those that are missing, and return the exit code: 1 where one exists already."""
    guard.install()
    unknown = [name for name in names if name not in RECORDINGS]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; known: {', '.join(RECORDINGS)}")  # noqa: T201
        return 2
    kept = [name for name in names if path_of(name).exists()]
    if kept:
        print(  # noqa: T201
            f"{', '.join(kept)}: recorded already, and never recorded anew; "
            f"if it no longer replays, mend the code with a patch"
        )
        return 1
    for name in names or RECORDINGS:
        if not path_of(name).exists():
            print(record(name))  # noqa: T201
    return 0


def path_of(name: str) -> Path:
    """Return where a history is kept."""
    return HERE / f"{name}.jsonl"


def record(name: str) -> Path:
    """Record a history and return its file."""
    make, id = RECORDINGS[name]
    world = make()
    session = Session(
        store=Bridged(world.store, in_place),
        pause=pause_in_place,
        codec=PydanticCodec(),
        registry=world.registry,
        blobs=world.blobs,
    )
    try:
        target = Target(workflow_id=id, run=1)
        return run_in_place(export_file(session, target, path_of(name)))
    finally:
        world.close()


# --- the zoo -------------------------------------------------------------------------------------


def break_() -> None:
    raise RuntimeError("broken")


def zoo_world() -> World:
    """Return a world with the animals, and their tasks; ``zoo.hang`` has no body."""
    world = World(*zoo.orc.registry.values())
    world.tasks.update(
        {
            "zoo.double": lambda number: number * 2,
            "zoo.echo": lambda value: value,
            "zoo.undo": lambda *_args, **_kwargs: None,
            "zoo.break": break_,
            # As a worker does with what is too large for an event.
            "zoo.large": lambda: world.blobs.put("x" * 70_000).as_json(),
        }
    )
    return world


def run_zoo(name: str, *args: Json) -> World:
    """Return a world in which a run of an animal rests."""
    world = zoo_world()
    world.start(name, *args)
    world.settle()
    return world


def pass_time(world: World, ms: int) -> None:
    """Let time pass, a minute or an hour at a time, so that retries come one by one."""
    step = min(ms, 60_000 if ms < DAY_MS else 3_600_000)
    for _ in range(0, ms, step):
        world.advance(step)
        world.settle()


@recording("zoo-together")
def together() -> World:
    return run_zoo("zoo-together", 3)


@recording("zoo-time")
def in_time() -> World:
    world = zoo_world()
    world.start("zoo-time")
    world.settle()
    world.advance(3_600_000)
    world.turn()
    hanging = world.pop()
    assert hanging is not None
    world.claim(hanging)
    world.advance(30_000)
    world.settle()
    world.finish(hanging, {"kind": "completed", "result": None})
    world.settle()
    world.advance(5_000)
    world.settle()
    return world


@recording("zoo-talk")
def talk() -> World:
    world = run_zoo("zoo-talk")
    world.signal("nudge", "hey")
    world.settle()
    pass_time(world, 60_000)
    for text in ("hello", "bye"):
        world.signal("say", {"text": text})
    world.signal("say", {"text": 3})
    world.signal("unheard of")
    world.settle()
    world.signal("enough", "done")
    world.settle()
    return world


@recording("zoo-saga-undone")
def undone() -> World:
    world = run_zoo("zoo-saga", "fail")
    pass_time(world, 6 * DAY_MS)
    return world


@recording("zoo-saga-committed")
def committed() -> World:
    return run_zoo("zoo-saga", "commit")


@recording("zoo-parent")
def parent() -> World:
    world = run_zoo("zoo-parent")
    pass_time(world, 2_000)
    return world


@recording("zoo-chance")
def chance() -> World:
    return run_zoo("zoo-chance")


@recording("zoo-stop-cancelled")
def stop_cancelled() -> World:
    world = zoo_world()
    world.start("zoo-stop")
    world.turn()
    world.work()
    world.turn()
    world.post(Kind.CANCEL, {"reason": "enough", "request_id": "c1"})
    world.settle()
    return world


@recording("zoo-stop-terminated")
def stop_terminated() -> World:
    world = zoo_world()
    world.start("zoo-stop")
    world.turn()
    world.post(Kind.TERMINATE, {"reason": "enough", "request_id": "c1"})
    world.settle()
    return world


@recording("zoo-order")
def in_order() -> World:
    world = run_zoo("zoo-order")
    pass_time(world, 600_000)
    return world


@recording("zoo-large")
def large() -> World:
    return run_zoo("zoo-large")


def _blocked() -> World:
    async def buggy(text: str) -> str:
        from orchestrator import workflow

        said = await workflow.step("zoo.echo", text)
        return str(said.no_such_thing)

    world = zoo_world()
    good = world.registry["zoo-mended"]
    bad = zoo.orc.registry["zoo-mended"]
    world.deploy(type(bad)(**{**_parts(bad), "function": buggy, "fingerprint": "bad"}))
    world.start("zoo-mended", "hello")
    world.settle()
    assert world.status() == "blocked"
    world.deploy(good)
    return world


def _parts(definition: Any) -> dict[str, Any]:
    names = ("name", "version", "codec", "decode_input", "signals", "failure_types", "bugs_fail")
    return {name: getattr(definition, name) for name in names}


@recording("zoo-mended")
def mended() -> World:
    world = _blocked()
    world.signal("go")
    world.settle()
    world.restart()
    world.settle()
    return world


@recording("zoo-terminated-while-blocked")
def terminated_while_blocked() -> World:
    world = _blocked()
    world.post(Kind.TERMINATE, {"reason": "given up", "request_id": "t1"})
    world.deploy(world.registry["zoo-mended"])
    world.settle()
    return world


@recording("zoo-looks")
def looks() -> World:
    return run_zoo("zoo-looks")


if __name__ == "__main__":
    logging.disable()
    # Under its own name, not __main__: what registers histories imports it.
    from tests.histories import record as kept
    from tests.histories import record_apps, record_words  # noqa: F401 - register

    sys.exit(kept.main(sys.argv[1:]))
