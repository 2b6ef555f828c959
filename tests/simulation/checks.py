"""The verdict: what must hold when everything has come to its end.

Each check raises `Broken` with its promise.  To add one, write a function of the `Verdict` and name
it in `CHECKS`.  What happens at an instant is checked there, by `watch` and `inboxes`.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from orchestrator.store.ports import RunKey
from tests.simulation import histories
from tests.simulation.broken import Broken
from tests.simulation.clients import Answered
from tests.simulation.histories import Event
from tests.simulation.permits import RATES
from tests.simulation.server import Server
from tests.simulation.service import Service
from tests.simulation.watch import CLOCK_ERROR_MS, Acknowledged, Recorded, Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What there is to judge: what the server has, and what the checker knows."""

    server: Server
    watch: Watch
    service: Service
    answers: Sequence[Answered]
    has_bugs: bool
    runs: Mapping[RunKey, list[Event]]

    def row_of(self, key: RunKey) -> dict[str, str] | None:
        """Return the row of a run, if it is the latest of its id."""
        row = self.server.find_row(key.workflow_id)
        return row if row is not None and row["run"] == str(key.run) else None


def check_histories(verdict: Verdict) -> None:
    """P6: what lies in the logs is what holders of the leases committed, byte by byte."""
    logs = {key: log for part in verdict.server._parts for key, log in part.logs.items()}
    watched = {key: log for key, log in verdict.watch.histories.items() if log}
    if logs.keys() != watched.keys():
        raise Broken("P6", "the histories", sorted(map(str, watched)), sorted(map(str, logs)))
    for key, log in logs.items():
        found = [(event.data, event.head) for event in log]
        if found != [(event.data, event.head) for event in watched[key]]:
            raise Broken("P6", f"the history of {key}", "as it was committed", "something else")


def check_indexes(verdict: Verdict) -> None:
    """I1: every run is in the indexes that its row says, and in no other."""
    for number, part in enumerate(verdict.server._parts):
        found = {name: places for name, places in part.indexes.items() if places}
        wanted: dict[str, set[tuple[int, str]]] = {}
        earlier = ((key.workflow_id, row) for key, row in part.past.items())
        for workflow_id, row in (*part.rows.items(), *earlier):
            place = (int(row["started_at_ms"]), f"{workflow_id}.{row['run']}")
            for name in ("all", f"type:{row['type']}", f"status:{row['status']}"):
                wanted.setdefault(name, set()).add(place)
            if "closed_at_ms" not in row:
                wanted.setdefault("open", set()).add(place)
        if found != wanted:
            raise Broken("I1", f"the indexes of partition {number}", wanted, found)


def check_order(verdict: Verdict) -> None:
    """P2: a history begins once, ends once, in the order of the store's clock."""
    for key, events in verdict.runs.items():
        types = [event["type"] for event in events]
        if types.count("RunStarted") != 1 or types[0] != "RunStarted":
            raise Broken("P2", f"the history of {key}", "begins with RunStarted, once", types)
        endings = [number for number, name in enumerate(types, 1) if name in histories.ENDINGS]
        if endings != [len(types)]:
            raise Broken("P5", f"the history of {key}", "ends once, at its end", types)
        _check_instants(key, events, verdict.watch.histories[key])


def _check_instants(key: RunKey, events: Sequence[Event], log: Sequence[Recorded]) -> None:
    last_ms = 0
    inputs: set[int] = set()
    for event, recorded in zip(events, log, strict=True):
        at_ms, name = event["at_ms"], event["type"]
        if name in histories.COMMANDS:
            # Its activation's; of a blocked run, whose commands follow late, an earlier one's.
            is_right, expected = at_ms in inputs, "that of an input before it"
        else:
            now_ms = recorded.now_ms + CLOCK_ERROR_MS
            is_right = last_ms <= at_ms <= now_ms
            expected = f"between {last_ms} and {now_ms}"
            inputs.add(at_ms)
            last_ms = at_ms
        if not is_right:
            raise Broken("P2", f"the instant of {name} in {key}", expected, at_ms)


def check_timers(verdict: Verdict) -> None:
    """P2: no timer fires, and no attempt is repeated, before it is due; and only once."""
    for key, events in verdict.runs.items():
        due: dict[str, int] = {}
        for event in events:
            if event["type"] == "TimerStarted":
                due[f"timer {event['timer']}"] = event["due_at_ms"]
            elif event["type"] == "TimerCancelled":
                due.pop(f"timer {event['timer']}", None)
            elif event["type"] == "StepAttemptFailed":
                due[f"step {event['step']}"] = event["retry_at_ms"]
            elif event["type"] in ("TimerFired", "StepRetried"):
                what = f"timer {event['timer']}" if "timer" in event else f"step {event['step']}"
                due_ms = due.pop(what, None)
                if due_ms is None or event["at_ms"] < due_ms:
                    raise Broken("P2", f"{what} of {key}", f"once, not before {due_ms}", event)


def check_acknowledged(verdict: Verdict) -> None:
    """P1: what was acknowledged is in history, exactly once, or its rejection is on record."""
    for what in verdict.watch.acknowledged:
        key = histories.key_of(what.workflow_id, what.run)
        events = verdict.runs.get(key)
        if events is None:
            raise Broken("P1", f"{what.kind} {what.name} of {key}", "a history", "none")
        _ACKNOWLEDGED[what.kind](verdict, key, events, what)


def _check_start(
    verdict: Verdict, key: RunKey, events: Sequence[Event], what: Acknowledged
) -> None:
    found = [
        str(other)
        for other, those in verdict.runs.items()
        if other.workflow_id == key.workflow_id and those[0].get("request_id") == what.name
    ]
    if found != [str(key)]:
        raise Broken("P1", f"start {what.name}", f"started {key} and nothing else", found)
    if events[0].get("args") != what.body["args"]:
        raise Broken("P1", f"input of {key}", what.body["args"], events[0].get("args"))


def _check_signal(
    verdict: Verdict, key: RunKey, events: Sequence[Event], what: Acknowledged
) -> None:
    if any(one.get("signal_id") == what.name for one in verdict.server.rejected):
        return
    # How often a chain has it, and where, is looked at by `chains`.
    told = [
        event
        for each in histories.chain_of(verdict.runs, key)
        for event in histories.of_type(verdict.runs[each], "SignalReceived", "SignalRejected")
        if event["signal_id"] == what.name
    ]
    if not told:
        raise Broken("P1", f"signal {what.name} of {key}", "recorded", "nowhere in its chain")


def _check_request(
    _verdict: Verdict, key: RunKey, events: Sequence[Event], what: Acknowledged
) -> None:
    event_type = {"cancel": "CancelRequested", "terminate": "TerminateRequested"}[what.kind]
    told = [
        event
        for event in histories.of_type(events, event_type)
        if event.get("request_id") == what.name
    ]
    # None: it raced with the end, or another one was first; `inboxes` has looked.
    if len(told) > 1:
        raise Broken("P1", f"{what.kind} {what.name} of {key}", "recorded at most once", told)


def _check_outcome(
    verdict: Verdict, key: RunKey, events: Sequence[Event], what: Acknowledged
) -> None:
    step, attempt = what.body["step"], what.body["attempt"]
    told = [
        event
        for event in histories.of_type(events, *histories.ENDS_ATTEMPT)
        if (event["step"], event["attempt"]) == (step, attempt)
    ]
    if not told:
        if _is_cut_short(events, step):
            return
        raise Broken("P1", f"outcome of {what.name}", f"{what.body['kind']}, recorded", "nothing")
    event = told[0]
    if what.body["kind"] == "completed":
        is_same = event["type"] == "StepCompleted" and event.get("result") == what.body["result"]
    else:
        is_same = event.get("failure", {}).get("type") == what.body["failure"]["type"]
    if not is_same and not verdict.watch.has_lost_tail:
        raise Broken("P1", f"outcome of {what.name}", dict(what.body), event)


def _is_cut_short(events: Sequence[Event], step: int) -> bool:
    """Return whether the run ended while the step was outstanding."""
    return not histories.of_type(histories.by_step(events).get(step, ()), *histories.SETTLING)


_ACKNOWLEDGED: Mapping[str, Callable[[Verdict, RunKey, Sequence[Event], Acknowledged], None]] = {
    "start": _check_start,
    "signal": _check_signal,
    "cancel": _check_request,
    "terminate": _check_request,
    "outcome": _check_outcome,
    "decision": lambda verdict, key, events, what: None,  # `inboxes` has looked.
}


def check_steps(verdict: Verdict) -> None:
    """P2: a step settles once, its attempts are numbered without gaps, under one key."""
    for key, events in verdict.runs.items():
        for step, those in histories.by_step(events).items():
            if verdict.watch.has_lost_tail and those[0]["type"] == "OutcomeRefused":
                continue  # Of a step that is lost.
            _check_step(f"step {step} of {key}", those)
            keys = verdict.watch.keys.get((key.workflow_id, key.run, step), set())
            if not keys <= {f"{key.workflow_id}.{key.run}.{step}"}:
                raise Broken("P2", f"idempotency key of step {step} of {key}", "one", sorted(keys))


def _check_step(subject: str, events: Sequence[Event]) -> None:
    if events[0]["type"] != "StepScheduled":
        raise Broken("P2", subject, "scheduled before anything else", events[0])
    attempt, is_settled, is_parked = 1, False, False
    for event in events[1:]:
        name = event["type"]
        if name == "StepScheduled":
            raise Broken("P2", subject, "scheduled once", event)
        if name in ("StepCancelRequested", "OutcomeRefused"):
            continue
        if is_settled:
            raise Broken("P2", subject, "nothing after it was settled", event)
        if name == "StepUnparked" and is_parked:
            attempt += event["decision"] == "retry"
            is_parked = False
        if event["attempt"] != attempt:
            raise Broken("P2", subject, f"attempt {attempt}", event)
        attempt += name == "StepAttemptFailed"
        is_parked = is_parked or name == "StepParked"
        is_settled = name in histories.SETTLING


def check_leftovers(verdict: Verdict) -> None:
    """P5: nothing is left of runs that have ended."""
    for number, part in enumerate(verdict.server._parts):
        left = {
            "inbox": [f"{one.kind.value} {one.workflow_id}" for one in part.inbox.values()],
            "timers": [str(timer) for timer in part.timers],
            "claims": [str(claim) for claim in part.claims],
            "steps": [f"{key}: {rows}" for key, rows in part.steps.items() if rows],
            "blocked": [str(key) for key in part.blocked],
            "open": list(part.open),
        }
        for what, found in left.items():
            if found:
                raise Broken("P5", f"{what} of partition {number}", "nothing left", sorted(found))


def check_row(verdict: Verdict) -> None:
    """P1: what a run's row says of its end is what its history says."""
    statuses = {
        "RunCompleted": "completed",
        "RunFailed": "failed",
        "RunCancelled": "cancelled",
        "RunTerminated": "terminated",
        "RunContinuedAsNew": "continued_as_new",
    }
    for key, events in verdict.runs.items():
        row = verdict.row_of(key)
        if row is None:
            continue
        ending = events[-1]
        expected = (statuses[ending["type"]], str(len(events)))
        if (row["status"], row["seq"]) != expected:
            raise Broken("P1", f"row of {key}", expected, (row["status"], row["seq"]))
        if ending["type"] == "RunCompleted" and json.loads(row["result"]) != ending.get("result"):
            raise Broken("P1", f"result of {key}", ending.get("result"), row["result"])


def check_sagas(verdict: Verdict) -> None:
    """P4: a saga is committed, or every effect it may have had is undone."""
    if verdict.watch.has_lost_tail:
        return  # Effects of what is lost have no history that could undo them.
    for key, events in verdict.runs.items():
        undoing = Counter(
            event["compensates"] for event in events if event.get("compensates") is not None
        )
        for step, count in undoing.items():
            if count > 1:
                raise Broken("P4", f"undo of step {step} of {key}", "ordered once", count)
        committed = {event["saga"] for event in histories.of_type(events, "SagaCommitted")}
        for event in histories.of_type(events, "StepScheduled"):
            if event.get("saga") is not None and event.get("compensates") is None:
                if event.get("undo") is None:
                    raise Broken("P4", f"a saga's step of {key}", "recorded with its undo", event)
                _check_undone(verdict, key, events, event, committed)


def _check_undone(
    verdict: Verdict,
    key: RunKey,
    events: Sequence[Event],
    scheduled: Event,
    committed: set[int],
) -> None:
    step, saga = scheduled["step"], scheduled["saga"]
    effect = f"{key.workflow_id}.{key.run}.{step}"
    subject = f"effect of step {step} of {key}, in saga {saga}"
    undoing = [event for event in events if event.get("compensates") == step]
    # What a person calls done, or skips, is taken at his word.
    decided = {
        event["step"]
        for event in histories.of_type(events, "StepUnparked")
        if event["decision"] != "retry"
    }
    if saga in committed:
        if undoing:
            raise Broken("P4", subject, "kept: the saga is committed", "undone")
        completed = histories.of_type(histories.by_step(events)[step], "StepCompleted")
        if completed and step not in decided and not verdict.service.holds(effect):
            raise Broken("P4", subject, "in force: the step completed", "not there")
    elif verdict.service.holds(effect) and not decided & {event["step"] for event in undoing}:
        raise Broken("P4", subject, "undone: the saga is not committed", "still in force")


def check_answers(verdict: Verdict) -> None:
    """P3: what a query was told is what the run's code has done, up to some point."""
    if verdict.watch.has_lost_tail:
        return
    for answer in verdict.answers:
        told = answer.body.get("ok")
        row = verdict.row_of(histories.key_of(answer.workflow_id, answer.run))
        if told is None or row is None or "state" not in row:
            continue
        trace: Any = json.loads(row["state"])["trace"]
        if trace[: len(told)] != told:
            raise Broken("P3", f"trace of {answer.workflow_id}", f"a part of {trace}", told)


def check_permits(verdict: Verdict) -> None:
    """P5: no permit is held, and nobody waits for one, once every run has ended.

    But for what a request that wandered about, behind its release, was granted, and nobody was told
    of: the next change of the key tells of it, and passes it on.
    """
    for key, kept in verdict.server._permit_keys.items():
        held = sorted(str(holder) for holder in kept.held.keys() - kept.untold)
        if held or kept.waiting:
            found = f"held by {held}, awaited by {[str(holder) for holder in kept.waiting]}"
            raise Broken("P5", f"permits of {key}, of runs that have ended", "given back", found)


def check_rates(verdict: Verdict) -> None:
    """P2: in no stretch of time more go than the rate says, and none before its slot."""
    slots: dict[str, list[int]] = {key: [] for key in RATES}
    for events in verdict.runs.values():
        asked = {
            event["permit"]: event["key"]
            for event in histories.of_type(events, "PermitRequested")
            if event["kind"] == "rate"
        }
        for event in histories.of_type(events, "PermitGranted"):
            if event["permit"] in asked:
                slots[asked[event["permit"]]].append(event["go_at_ms"])
    for key, instants in slots.items():
        count, per_ms = RATES[key]
        for group in range(count):
            for earlier, later in pairwise(sorted(instants)[group::count]):
                if later - earlier < per_ms and not verdict.watch.has_lost_tail:
                    raise Broken("P2", f"slots of {key}", f"{per_ms} ms apart", (earlier, later))


CHECKS: tuple[Callable[[Verdict], None], ...] = (
    check_histories,
    check_indexes,
    check_order,
    check_timers,
    check_acknowledged,
    check_steps,
    check_leftovers,
    check_row,
    check_sagas,
    check_answers,
    check_permits,
    check_rates,
)
