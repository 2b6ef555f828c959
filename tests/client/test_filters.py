"""A filter as a line of text: what it says, and the one sentence that a bad one gets."""

from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.client.filter_text import parse_filter
from orchestrator.client.filters import EVERY_RUN, All, Any_, Comparison, Plan, matches, plans
from orchestrator.core.errors import InvalidFilter
from orchestrator.core.limits import FILTER_CHARS_MAX, FILTER_TERMS_MAX

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RUN: dict[str, Any] = {
    "WorkflowId": "order-42",
    "WorkflowType": "order",
    "ExecutionStatus": "running",
    "StartTime": NOON,
    "Run": 1,
    "who": "ana",
    "it's": "x",
    "n": 5,
    "rate": 2.5,
    "vip": True,
    "due": NOON,
    "tags": ["red", "round"],
    "empty": "",
}

HOLDS = [
    "",
    "   ",
    "who = 'ana'",
    'who = "ana"',
    "who == 'ana' and n=5",
    "who IN ('bo', 'ana')",
    "who not in ('bo')",
    "who != 'bo' AND who <> 5",
    "who STARTS_WITH 'an' AND who NOT STARTS_WITH 'b'",
    "who > 'aaa' AND who < 'b'",
    "n >= 5 AND n <= 5.0 AND n > -1 AND n < 1e3",
    "n BETWEEN 5 AND 9 AND n NOT BETWEEN 6 AND 9",
    "rate = 2.5 AND rate > 2",
    "vip = true AND vip != FALSE",
    "due = '2026-01-01T12:00:00Z' AND due > '2026-01-01' AND due < '2026-01-01T14:00:00+01:00'",
    "tags = 'red' AND tags = 'round' AND tags IN ('blue', 'red') AND tags STARTS_WITH 'ro'",
    "tags != 'blue' AND tags NOT IN ('blue')",
    "nobody IS NULL AND who IS NOT NULL AND EXISTS n",
    "empty = '' AND empty IS NOT NULL",
    "who = 'bo' OR n = 5 AND vip = true",
    "(who = 'bo' OR n = 5) AND (vip = true)",
    "WorkflowType = 'order' AND ExecutionStatus = 'Running' AND CloseTime IS NULL AND Run = 1",
    "WorkflowId STARTS_WITH 'order-' AND StartTime >= '2026-01-01T12:00:00+00:00'",
    "StartTime BETWEEN '2026-01-01' AND '2026-01-02'",
]
HOLDS_NOT = [
    "who = 'bo'",
    "who = 'ANA'",
    "Who = 'ana'",
    "nobody = 'ana'",
    "nobody != 'ana'",
    "nobody NOT IN ('ana')",
    "nobody NOT BETWEEN 1 AND 2",
    "who = 5",
    "n = '5'",
    "n = true",
    "vip = 1",
    "n > 'a'",
    "tags > 'a'",
    "tags != 'red'",
    "tags NOT IN ('x', 'red')",
    "due = 'noon'",
    "who = 'bo' OR n = 6 AND vip = true",
    "(who = 'bo' OR n = 5) AND vip = false",
    "CloseTime < '2030-01-01'",
]


@pytest.mark.parametrize("text", HOLDS)
def test_filter_holds_of_a_run(text: str) -> None:
    assert matches(parse_filter(text), RUN.get)


@pytest.mark.parametrize("text", HOLDS_NOT)
def test_filter_does_not_hold_of_a_run(text: str) -> None:
    assert not matches(parse_filter(text), RUN.get)


def test_quote_in_a_text_is_doubled() -> None:
    parsed = parse_filter('who = \'it\'\'s "x"\' OR who = """"')
    assert parsed == Any_(
        (
            Comparison(name="who", operator="=", values=('it\'s "x"',)),
            Comparison(name="who", operator="=", values=('"',)),
        )
    )


def test_and_binds_closer_than_or() -> None:
    parsed = parse_filter("a=1 OR b=2 AND c=3")
    assert isinstance(parsed, Any_)
    assert isinstance(parsed.parts[1], All)


REFUSED = [
    ("who", "at character 4, near 'who': found the end, wanted a comparison such as = or IN"),
    ("who = ", "found the end, wanted a value: a text in quotes, a number, true or false"),
    (
        "who = ana",
        "at character 7, near 'who = ana': found 'ana', wanted a value; a text",
    ),
    ("who = = 'a'", "at character 7, near \"who = = 'a'\": found '=', wanted a value"),
    ("who = 'ana", "at character 7, near \"who = 'ana\": the quote ' is not closed"),
    ("who ~ 'ana'", "found '~', which no filter has outside quotes"),
    ("who = 'a' who = 'b'", "found 'who', wanted AND, OR or the end"),
    ("(who = 'a'", "found the end, wanted AND, OR or ')'"),
    ("who IN 'a'", "wanted '(', as in IN ('a', 'b')"),
    ("who IN ()", "found ')', wanted a value"),
    ("who IN ('a' 'b')", "wanted ',' or ')'"),
    ("n BETWEEN 1 OR 2", "found 'OR', wanted AND, as in BETWEEN 1 AND 9"),
    ("who IS 5", "found '5', wanted NULL or NOT NULL"),
    ("who NOT = 5", "found '=', wanted IN, BETWEEN or STARTS_WITH"),
    ("who STARTS_WITH 5", "found '5', wanted a text in quotes"),
    ("AND who = 1", "at character 1, near 'AND who = 1': found 'AND', wanted the name of an attri"),
    ("5 = who", "found '5', wanted the name of an attribute"),
    ("workflowtype = 'order'", "found 'workflowtype', do you mean WorkflowType"),
    ("ExecutionStatus = 'runing'", "no status is 'runing'; there are pending, running,"),
    ("ExecutionStatus IN ('running', 5)", "no status is 5; there are"),
    ("StartTime > 5", "found '5', StartTime wants an instant as a text, such as '2026-11-25T20:00"),
    ("StartTime > 'noon'", "StartTime wants an instant"),
    ("Run = 'one'", "Run wants a number"),
    ("WorkflowType = 5", "WorkflowType wants a text in quotes"),
    ("n = 12abc", "found '1', which no filter has outside quotes"),
    ("n = " + "9" * 50, "a number of 50 characters"),
    ("n = 1e999", "1e999 is beyond every number"),
    ("(" * (FILTER_TERMS_MAX + 1), f"more than {FILTER_TERMS_MAX} terms"),
    ("x" * (FILTER_CHARS_MAX + 1), f"{FILTER_CHARS_MAX + 1} characters, at most"),
]


@pytest.mark.parametrize(("text", "reason"), REFUSED, ids=lambda part: part[:30])
def test_bad_filter_gets_one_sentence_that_points_at_the_place(text: str, reason: str) -> None:
    with pytest.raises(InvalidFilter) as refused:
        parse_filter(text)
    sentence = str(refused.value)
    assert reason in sentence
    assert sentence.startswith("filter, at character ")
    assert "\n" not in sentence
    assert len(sentence) < 400


PLANS: list[tuple[str, Plan]] = [
    ("", Plan(is_exact=True)),
    ("WorkflowType = 'order'", Plan(indexes=("type:order",), is_exact=True)),
    (
        "ExecutionStatus IN ('running', 'failed')",
        Plan(indexes=("status:running", "status:failed"), is_exact=True),
    ),
    ("who = 'ana'", Plan(indexes=("is:who=s:ana",), is_exact=True)),
    ("who IN ('a', 'b')", Plan(indexes=("is:who=s:a", "is:who=s:b"))),
    ("who > 'a'", Plan(indexes=("has:who",))),
    ("EXISTS who", Plan(indexes=("has:who",), is_exact=True)),
    ("who IS NULL", Plan()),
    ("who != 'a'", Plan(indexes=("has:who",))),
    ("who = 'a' OR n = 1", Plan(indexes=("is:who=s:a", "is:n=n:1"))),
    ("who = 'a' OR WorkflowId = 'x'", Plan()),
    (
        "due = '2026-01-01'",
        Plan(indexes=("is:due=s:2026-01-01", "is:due=d:2026-01-01T00:00:00+00:00")),
    ),
]


@pytest.mark.parametrize(("text", "plan"), PLANS, ids=lambda part: str(part)[:30])
def test_filter_is_answered_from_the_indexes_that_hold_its_runs(text: str, plan: Plan) -> None:
    assert plans(parse_filter(text)) == [plan]


def test_every_part_of_a_conjunction_may_be_the_one_to_look_in() -> None:
    found = plans(parse_filter("who = 'a' AND n > 1 AND StartTime < '1970-01-01T00:00:01Z'"))
    assert {plan.indexes for plan in found} == {("is:who=s:a",), ("has:n",), ("all",)}
    assert {plan.newest_ms for plan in found} == {1_001}
    assert not any(plan.is_exact for plan in found)


def test_filter_of_no_terms_takes_every_run() -> None:
    assert parse_filter("") == EVERY_RUN == All(())
    assert matches(EVERY_RUN, RUN.get)
