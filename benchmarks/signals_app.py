"""What the signal benchmark runs: one workflow that takes numbers, and goes on as new."""

from celery import Celery

from benchmarks.celery_settings import SETTINGS, URL
from orchestrator import Orchestrator, workflow

app = Celery("signals", broker=URL)
app.conf.update(SETTINGS)
orc = Orchestrator(app)

#: Wrong numbers that a run keeps: enough to see what kind of mistake it is.
_WRONG_MAX = 20

#: By sender the last number that was taken, how many were, and [sender, wanted, found] of the
#: wrong ones.
Taken = dict[str, object]


def nothing_taken() -> Taken:
    """Return what the first run of a chain begins with."""
    return {"last": {}, "count": 0, "wrong": []}


def take(taken: Taken, sender: str, number: int) -> None:
    """Count a number, and compare it with the one that its sender sent before."""
    last: dict[str, int] = taken["last"]  # type: ignore[assignment]
    wrong: list[list[object]] = taken["wrong"]  # type: ignore[assignment]
    wanted = last.get(sender, 0) + 1
    if number != wanted and len(wrong) < _WRONG_MAX:
        wrong.append([sender, wanted, number])
    last[sender] = number
    taken["count"] = int(taken["count"]) + 1  # type: ignore[call-overload]


@orc.workflow
async def awaiting(taken: Taken, per_run: int) -> list[object]:
    """Await the numbers one by one, `per_run` in each run, until one of sender "" comes."""
    for _ in range(per_run):
        sender, number = await workflow.signal("number")
        if not sender:
            return [taken, workflow.info().run]
        take(taken, sender, number)
    workflow.continue_as_new(taken, per_run)


@orc.workflow
async def handling(taken: Taken, per_run: int) -> list[object]:
    """Take the numbers in a handler, `per_run` in each run, until one of sender "" comes."""
    left, is_over = per_run, False

    @workflow.on_signal("number")
    def take_number(signal: list[object]) -> None:
        nonlocal left, is_over
        sender, number = signal
        if not sender:
            is_over = True
            return
        take(taken, str(sender), int(str(number)))
        left -= 1
        if not left:
            workflow.continue_as_new(taken, per_run)

    await workflow.wait_condition(lambda: is_over)
    return [taken, workflow.info().run]
