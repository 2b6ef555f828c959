"""What is claimed after a storm: each claim a function that looks, and returns what speaks against.

Nothing here believes the engine: histories come from `evidence`, books from SQL; the engine's own
`verify` and replay are asked as well, and have to agree.
"""

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tasks.audit import audit
from tests.chaos.aftermath import Aftermath
from tests.chaos.evidence import History, leftovers, rejected_signals
from tests.chaos.people import Said
from tests.chaos.takeover import BAR_S, Takeover

#: Ends of a step that say its order could not do it.
_GAVE_UP = ("failed", "lost", "timed_out")


@dataclass(slots=True)
class Claim:
    """A sentence, the figures behind it, and what speaks against it: [] if it holds."""

    sentence: str
    figures: str
    against: list[str]


def all_claims(after: Aftermath) -> Iterator[Claim]:
    """Yield the claims, cheap and telling ones first."""
    yield ended(after)
    yield books_balance(after)
    yield effects_once(after)
    yield chains_hold(after)
    yield replays_agree(after)
    yield nothing_twice(after)
    yield nothing_lost(after)
    yield nothing_left(after)
    yield taken_over(after)
    yield nobody_fell(after)


def ended(after: Aftermath) -> Claim:
    """Every order is in a final state, and in one that its story allows."""
    against = [*after.unended]
    kinds: Counter[str] = Counter()
    for plan in after.plans:
        history = after.histories.get(plan.id)
        if history is None:
            against.append(f"{plan.id} ({plan.kind.value}): no history")
            continue
        status = after.statuses[plan.id]
        kinds[status] += 1
        may_fail = any(
            event["kind"] in _GAVE_UP and not _is_news(history, event["step"])
            for event in history.of_type("StepFailed")
        )
        if status not in plan.ends and not (status == "failed" and may_fail):
            against.append(
                f"{plan.id} ({plan.kind.value}) is {status}, its run {history.status}; "
                f"one of {', '.join(sorted(plan.ends))} was to be expected"
            )
    figures = ", ".join(f"{count} {status}" for status, count in kinds.most_common())
    return Claim(f"all {len(after.plans)} orders have ended", figures, against)


def _is_news(history: History, step: int) -> bool:
    (task,) = [e["task"] for e in history.of_type("StepScheduled") if e["step"] == step]
    return bool(task.endswith(".notify"))


def books_balance(after: Aftermath) -> Claim:
    """Stock and money are conserved."""
    statuses = {**{plan.id: "never started" for plan in after.plans}, **after.statuses}
    against = [*audit(statuses=statuses), *after.books.wrong_sums(after.plans, after.statuses)]
    cents = sum(
        round(float(plan.total) * 100)
        for plan in after.plans
        if after.statuses.get(plan.id) == "completed"
    )
    figures = f"{cents / 100:.2f} in the till, as the completed orders come to"
    return Claim("SQL: stock and money are conserved, order by order and in all", figures, against)


def effects_once(after: Aftermath) -> Claim:
    """Every effect was made once under its key, however often it was tried."""
    made, repeated = after.books.repeated()
    against = list(after.books.wrong_keys(after.histories))
    figures = f"{made} effects, {repeated} more tries that found theirs made"
    return Claim("SQL: one effect for each key, one key for each step", figures, against)


def chains_hold(after: Aftermath) -> Claim:
    """Every history hashes to its heads, and is what was read of it on the way."""
    events = sum(len(history.events) for history in after.histories.values())
    against = [*after.chain_faults, *after.witness.changed]
    for history in after.histories.values():
        verified = after.stack.orc.run(history.workflow_id, history.run).verify()
        if not verified:
            against.append(f"{history.workflow_id}: the engine's own check says {verified}")
    for (workflow_id, run, seq), head in after.witness.heads.items():
        history = after.histories[workflow_id]
        if history.run != run or history.heads[seq - 1 : seq] != [head]:
            against.append(f"{workflow_id}: event {seq}, as it was read once, is gone")
    figures = f"{events} events; {len(after.witness.heads)} heads read in the storm are still there"
    return Claim(f"{len(after.histories)} hash chains hold", figures, against)


def replays_agree(after: Aftermath) -> Claim:
    """The code, given a history's inputs, issues the commands that it records."""
    against, commands = [], 0
    for workflow_id in after.histories:
        try:
            events = after.stack.check_history(after.stack.orc.run(workflow_id))
        except Exception as error:
            # Whatever it is, it speaks against the claim.
            against.append(f"{workflow_id}: {type(error).__name__}: {error}")
        else:
            commands += len(events)
    sentence = f"{len(after.histories)} histories replayed to the same commands"
    return Claim(sentence, f"{commands} events", against)


def nothing_twice(after: Aftermath) -> Claim:
    """Every step is ordered once and has one outcome at most; every signal is taken once."""
    against = []
    for history in after.histories.values():
        lists = {
            "ordered": [e["step"] for e in history.of_type("StepScheduled")],
            "settled": [e["step"] for e in history.of_type("StepCompleted", "StepFailed")],
            "started": [0 for _ in history.of_type("RunStarted")],
            "taken": [e["signal_id"] for e in history.of_type("SignalReceived")],
            "fired": [e["timer"] for e in history.of_type("TimerFired")],
        }
        for name, found in lists.items():
            twice = [str(each) for each, count in Counter(found).items() if count > 1]
            if twice:
                against.append(f"{history.workflow_id}: {', '.join(twice)} {name} twice")
    refused = after.count("OutcomeRefused")
    figures = f"{refused} late outcomes refused, {after.count('StepResent')} messages sent again"
    return Claim("nothing was recorded twice", figures, against)


def nothing_lost(after: Aftermath) -> Claim:
    """What was acknowledged is in a history, or in the list of what no run could take."""
    against = [
        f"{order_id}: its start was acknowledged, and there is no run"
        for order_id in after.record.started
        if order_id not in after.histories
    ]
    rejected = rejected_signals(after.stack.redis)
    for said in after.record.said:
        if not _is_recorded(said, after.histories.get(said.order_id), rejected):
            against.append(f"{said.order_id}: {said.signal or 'cancel request'} {said.id} is lost")
    against += after.record.troubles
    doors = sum(said.is_by_door for said in after.record.said)
    figures = (
        f"{len(after.record.started)} starts, {len(after.record.said)} messages ({doors} by XADD, "
        f"{len(rejected)} of them too late); {after.record.unheard} calls had no answer"
    )
    return Claim("nothing acknowledged was lost", figures, against)


def _is_recorded(said: Said, history: History | None, rejected: set[str]) -> bool:
    if said.id in rejected:
        return True
    if history is None:
        return False
    if not said.id:
        return bool(history.of_type("CancelRequested", "RequestRejected"))
    told = history.of_type("SignalReceived", "SignalRejected")
    return said.id in {event["signal_id"] for event in told}


def nothing_left(after: Aftermath) -> Claim:
    """Inboxes, timers, claims, outstanding steps, the door and the queue are empty."""
    return Claim("nothing is left waiting anywhere", "", leftovers(after.stack.redis))


def taken_over(after: Aftermath) -> Claim:
    """What stood still because of a fault moved again, within the bar and all other trouble."""
    partitions, steps = after.takeovers.of_partitions, after.step_takeovers
    against = [
        f"{each.what} stood still for {each.seconds:.1f} s, for {each.quiet_s:.1f} s of them with "
        f"nothing else the matter; {BAR_S:g} s are allowed"
        for each in (*partitions, *steps)
        if each.quiet_s > BAR_S
    ]
    figures = (
        f"partitions of orchestrators that were hit: {_spread(partitions)}\n"
        f"steps that lost their worker: {_spread(steps)}"
    )
    return Claim("what was held by the dead was taken over", figures, against)


def nobody_fell(after: Aftermath) -> Claim:
    """No process ended but those that were killed."""
    kills = ", ".join(
        f"{count} {victim.value} {action.value}"
        for (victim, action), count in sorted(
            after.tally.done.items(), key=lambda item: (item[0][0].value, item[0][1].value)
        )
    )
    return Claim("nobody ended but who was killed", kills, [*after.tally.ended_alone])


def _spread(takeovers: Sequence[Takeover]) -> str:
    if not takeovers:
        return "none"
    seconds = [each.seconds for each in takeovers]
    return (
        f"{len(seconds)}, slowest {max(seconds):.1f} s, median {statistics.median(seconds):.1f} s; "
        f"without other trouble {max(each.quiet_s for each in takeovers):.1f} s at most"
    )
