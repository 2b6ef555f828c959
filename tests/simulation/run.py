"""One seed, from its world to its verdict."""

import logging
import traceback
from dataclasses import dataclass, field

from tests.simulation import histories
from tests.simulation.broken import Broken
from tests.simulation.chains import check_chains, check_retries
from tests.simulation.checks import CHECKS, Verdict
from tests.simulation.replays import check_replays
from tests.simulation.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a seed: `broken` is None where all promises held."""

    seed: int
    broken: Broken | None
    story: list[str] = field(default_factory=list)


class _Complaints(logging.Handler):
    """Keeps what the engine logs of exceptions that it cannot explain."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the traceback of an exception."""
        if record.exc_info and record.exc_info[1] is not None:
            stack = "".join(traceback.format_exception(record.exc_info[1]))
            self.found.append(f"{record.getMessage()}\n{stack}")


def simulate(seed: int, *, is_told: bool = False) -> Outcome:
    """Return what became of `seed`; with its story, if it `is_told`."""
    logger, complaints = logging.getLogger("orchestrator.engine"), _Complaints()
    before = logger.level, logger.propagate
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    logger.addHandler(complaints)
    world = World(seed, is_told=is_told)
    broken: Broken | None = None
    try:
        world.storm()
        world.quiet()
        judge(world)
        if complaints.found:
            raise Broken("engine", "an exception in a cycle", "none", complaints.found[0])
    except Broken as error:
        # What the engine could not explain comes before what followed from it.
        broken = error
        if complaints.found and error.promise != "engine":
            broken = Broken("engine", "an exception in a cycle", "none", complaints.found[0])
    except Exception:
        stack = traceback.format_exc()
        broken = Broken("engine", "an exception that ends a process", "none", stack)
    finally:
        world.close()
        logger.removeHandler(complaints)
        logger.setLevel(before[0])
        logger.propagate = before[1]
    return Outcome(seed=seed, broken=broken, story=world.story.lines)


def judge(world: World) -> None:
    """Check everything.

    Raises:
        Broken: A promise does not hold.
    """
    runs = {
        key: histories.decoded(log)
        for part in world.server._parts
        for key, log in part.logs.items()
    }
    verdict = Verdict(
        server=world.server,
        watch=world.watch,
        service=world.service,
        answers=world.desk.answers,
        has_bugs="deploy" in world.had,
        runs=runs,
    )
    for check in (*CHECKS, check_replays, check_chains, check_retries):
        check(verdict)
