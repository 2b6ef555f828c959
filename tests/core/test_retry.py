"""A failed attempt is followed by another one as the policy says, and never beyond it."""

from datetime import timedelta

import pytest

from orchestrator.core.failure import Failure
from orchestrator.core.options import StepOptions
from orchestrator.core.retry import RETRY_UNTIL_DONE, Retry, is_final, retry_delay_ms

BOOM = Failure(type="Boom", message="")


@pytest.mark.parametrize(("attempt", "bound_ms"), [(2, 1000), (3, 2000), (4, 4000), (5, 5000)])
def test_the_wait_grows_by_the_factor_up_to_its_bound(attempt: int, bound_ms: int) -> None:
    policy = Retry(interval_max=timedelta(seconds=5))
    assert retry_delay_ms(policy, BOOM, attempt=attempt, jitter=0.0) == 0
    assert retry_delay_ms(policy, BOOM, attempt=attempt, jitter=0.5) == bound_ms // 2


def test_the_last_attempt_is_the_last() -> None:
    assert retry_delay_ms(Retry(attempts=3), BOOM, attempt=3, jitter=0.1) is not None
    assert retry_delay_ms(Retry(attempts=3), BOOM, attempt=4, jitter=0.1) is None


def test_until_done_never_gives_up_and_never_overflows() -> None:
    delay = retry_delay_ms(RETRY_UNTIL_DONE, BOOM, attempt=100_000, jitter=0.999)
    assert delay is not None
    assert delay <= 60_000


def test_a_final_answer_is_not_tried_again() -> None:
    final = Failure(type="Refused", message="", non_retryable=True)
    assert is_final(Retry(), final)
    assert retry_delay_ms(Retry(), final, attempt=2, jitter=0.5) is None
    assert retry_delay_ms(Retry(non_retryable=("Boom",)), BOOM, attempt=2, jitter=0.5) is None


def test_the_failures_own_wish_wins_over_the_back_off_but_not_over_the_count() -> None:
    wish = Failure(type="Boom", message="", next_retry_delay_ms=77)
    assert retry_delay_ms(Retry(), wish, attempt=2, jitter=0.9) == 77
    assert retry_delay_ms(Retry(attempts=1), wish, attempt=2, jitter=0.9) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"initial": timedelta(seconds=-1)},
        {"initial": timedelta(seconds=9), "interval_max": timedelta(seconds=8)},
        {"factor": 0.5},
    ],
)
def test_a_policy_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="Retry"):
        Retry(**wrong)  # type: ignore[arg-type]


def test_policies_and_options_survive_json() -> None:
    policy = Retry(
        attempts=None,
        initial=timedelta(milliseconds=5),
        factor=1.5,
        interval_max=timedelta(hours=1),
        non_retryable=("A", "B"),
    )
    assert Retry.from_json(policy.as_json()) == policy
    options = StepOptions(
        queue="q",
        priority=3,
        retry=policy,
        schedule_to_start=timedelta(seconds=1),
        start_to_close=timedelta(seconds=2),
        schedule_to_close=timedelta(days=3),
        heartbeat=timedelta(milliseconds=4),
        local=True,
        until_done=True,
    )
    assert StepOptions.from_json(options.as_json()) == options
    assert StepOptions().as_json() == {}
    assert StepOptions.from_json({}) == StepOptions()


def test_a_time_out_below_a_millisecond_is_not_none() -> None:
    assert StepOptions(heartbeat=timedelta(microseconds=1)).heartbeat_ms == 1
    assert StepOptions().heartbeat_ms == 0
