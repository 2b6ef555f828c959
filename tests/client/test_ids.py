"""I1: which workflow ids are possible; what is built from them can be taken apart again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.client.ids import checked_workflow_id, new_workflow_id
from orchestrator.core.errors import InvalidWorkflowId
from orchestrator.core.limits import WORKFLOW_ID_CHARS_MAX
from orchestrator.store.ports import AttemptKey, TimerKey, TimerKind


@pytest.mark.parametrize(
    "workflow_id",
    [
        *("order-42", "a", "a.b.1.2", "a:b", "tenant/7#x", "{3}", "größe", "注文", "x" * 200),
        *("-", "*", "$", "\N{FULL BLOCK}"),
    ],
)
def test_id_is_taken_as_it_is(workflow_id: str) -> None:
    assert checked_workflow_id(workflow_id) == workflow_id


@pytest.mark.parametrize(
    "workflow_id",
    [
        *(
            "",
            "a b",
            "a\tb",
            "a\n",
            "a\x00b",
            "a\x7fb",
            "a\u00a0b",
            "a\u2028b",
            "a\u200bb",
            "\ud800",
        ),
        "x" * (WORKFLOW_ID_CHARS_MAX + 1),
    ],
    ids=ascii,
)
def test_id_that_cannot_be_read_is_refused(workflow_id: str) -> None:
    with pytest.raises(InvalidWorkflowId) as caught:
        checked_workflow_id(workflow_id)
    assert str(caught.value).isprintable()


def test_id_that_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidWorkflowId, match="is a str"):
        checked_workflow_id(42)


@given(st.text(min_size=1, max_size=WORKFLOW_ID_CHARS_MAX))
def test_keys_built_from_a_possible_id_can_be_taken_apart(workflow_id: str) -> None:
    try:
        checked_workflow_id(workflow_id)
    except InvalidWorkflowId:
        return
    attempt = AttemptKey(workflow_id=workflow_id, run=1, step=2, attempt=3)
    assert AttemptKey.parse(str(attempt)) == attempt
    timer = TimerKey(kind=TimerKind.SLEEP, workflow_id=workflow_id, run=1, number=2)
    assert TimerKey.parse(str(timer)) == timer


def test_made_up_id_fits_however_long_the_name() -> None:
    assert checked_workflow_id(new_workflow_id("w" * 300))
