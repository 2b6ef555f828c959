"""Promise: what runs were recorded with this repository's workflows goes on with its code as it is.

A red test here is a breaking change for running workflows: mend the code with a patch.  Never
record a history anew.
"""

import pytest

import sagas
from orchestrator import read_history_file
from orchestrator.client.schedules import schedule_definition
from orchestrator.core.events import COMMANDS, INPUTS, NOTES
from orchestrator.core.schedule import SCHEDULE_TYPE
from orchestrator.payloads import PydanticCodec
from orchestrator.replaying.pytest_plugin import ReplayHistories
from tasks.app import TRAINS
from tests.histories import record, record_apps, record_words, zoo

KEPT = sorted(record.HERE.glob("*.jsonl"))
BYTES_MAX = 100_000
#: Events that no history here has: what belongs to them is tested elsewhere.
RARE = {
    *("StepParked", "StepUnparked", "OutcomeRefused", "RequestRejected", "StepResent"),
    *("SignalRefused", "StepPaused", "StepUnpaused", "StepReset"),
}


def test_every_history_still_replays(replay_histories: ReplayHistories) -> None:
    schedules = {SCHEDULE_TYPE: schedule_definition(PydanticCodec())}
    known = {**sagas.orc.registry, **zoo.orc.registry, **schedules}
    wanted = [path for path in KEPT if TRAINS or not path.name.startswith("training-")]
    report = replay_histories(*wanted, app=known)
    assert len(report.results) == len(wanted)


def test_every_recording_is_kept_and_small() -> None:
    assert {record_apps.__name__, record_words.__name__}, "they register what they record"
    assert {path.stem for path in KEPT} >= set(record.RECORDINGS)
    for path in KEPT:
        assert path.stat().st_size < BYTES_MAX, path


def test_nothing_is_recorded_twice(capsys: pytest.CaptureFixture[str]) -> None:
    before = KEPT[0].read_bytes()
    assert record.main([KEPT[0].stem]) == 1
    assert "never recorded anew" in capsys.readouterr().out
    assert KEPT[0].read_bytes() == before
    assert record.main(["no-such"]) == 2


def test_histories_have_every_kind_of_event_that_is_not_rare() -> None:
    found = {type(event).__name__ for path in KEPT for event in read_history_file(path).events}
    wanted = {kind.__name__ for kind in (*INPUTS, *COMMANDS, *NOTES)}
    assert wanted - found <= RARE, "let a workflow of the zoo do it, and record that"
