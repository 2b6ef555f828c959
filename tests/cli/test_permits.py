"""What an operator sees of a key's permits."""

from collections.abc import Callable
from typing import Any

from orchestrator.app import Orchestrator
from orchestrator.store.memory import MemoryStore
from orchestrator.store.permit_ports import Holder

Type = Callable[..., Any]


def holder(workflow_id: str, permit: int = 1) -> Holder:
    return Holder(workflow_id=workflow_id, run=1, permit=permit)


def test_holders_and_waiters_are_listed_first_come_first(typed: Type, store: MemoryStore) -> None:
    for name in ("order-1", "order-2", "order-3"):
        store.request_permit("account-42", holder(name), limit=1)
    said = typed("permits", "account-42").out.splitlines()
    assert said[0] == "account-42: 1 of 1 held, 2 waiting"
    assert [line.split()[:2] for line in said[2:]] == [
        ["holds", "order-1"],
        ["waits", "order-2"],
        ["waits", "order-3"],
    ]


def test_permits_as_json_are_what_python_is_told(
    typed: Type, store: MemoryStore, orc: Orchestrator
) -> None:
    store.request_permit("gpu", holder("a", 4), limit=2)
    store.take_slot("gpu", holder("b"), limit=1, per_ms=50)
    state = orc.permits("gpu")
    (grant,) = state.holders
    ((at_ms, _),) = state.slots
    assert typed("permits", "gpu", "--json").data == {
        "key": "gpu",
        "limit": 2,
        "holders": [
            {
                "workflow_id": "a",
                "run": 1,
                "permit": 4,
                "fence": grant.fence,
                "since_ms": grant.since_ms,
            }
        ],
        "waiters": [],
        "slots": [{"workflow_id": "b", "run": 1, "permit": 1, "at_ms": at_ms}],
    }
    assert "slot" in typed("permits", "gpu").out


def test_a_key_that_nobody_holds_is_said_to_be_so(typed: Type) -> None:
    assert typed("permits", "nothing").out == "nothing: nobody holds a permit, and nobody waits\n"


def test_a_key_that_cannot_be_is_refused_in_one_line(typed: Type) -> None:
    refused = typed("permits", "")
    assert refused.code != 0
    assert "printable text" in refused.error
