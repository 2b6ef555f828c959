"""Every error can be rebuilt from its arguments, and stands in the tree its module draws."""

import inspect
import pickle
import re
from datetime import timedelta

import pytest

from orchestrator.core import errors
from orchestrator.core.failure import Failure, failure_of
from orchestrator.core.limits import FAILURE_CAUSES_MAX, FAILURE_MESSAGE_CHARS_MAX

FAILURE = Failure(type="Boom", message="it broke")
ERRORS: list[BaseException] = [
    errors.OrchestratorError("base"),
    errors.UsageError("fix it"),
    errors.ConfigurationError("store", "nothing", "give it an address"),
    errors.InvalidWorkflowId("a b", "has a blank"),
    errors.InvalidPayload("input", "total: not a number"),
    errors.InvalidFilter("a = = 1", 5, "found '=', wanted a value"),
    errors.PayloadTooLarge("input", 10, 5),
    errors.UnknownWorkflow("order", ("travel",)),
    errors.UnknownQuery("w-1", "count", ("stack",)),
    errors.RunNotFound("w-1"),
    errors.RunExists("w-1", 1, "running"),
    errors.DuplicateRun("w-1", 1, "completed", "reject_duplicate"),
    errors.RunClosed("w-1", 1, "completed"),
    errors.ResetRefused("w-1 run 1: there is no event 99: the history has 7"),
    errors.StepClosed("w-1", 1, 3, 2),
    errors.HistoryFileError("histories/w-1.1.jsonl", 3, "is not JSON"),
    errors.ForbiddenInWorkflow("time.time()", "use workflow.now()"),
    errors.NondeterminismError("w-1", 3, "A", "B", "sagas/order.py:57"),
    errors.WorkflowStuck("w-1", "running", "nothing is due", ("signal 'go'",)),
    errors.WorkflowFailed("w-1", 1, "failed", FAILURE),
    errors.ApplicationError("no", "OutOfStock", True, timedelta(seconds=1), [0]),  # noqa: FBT003
    errors.StepError(1, "tasks.charge", 2, FAILURE),
    errors.StepTimeout(1, "tasks.charge", 2, FAILURE),
    errors.StepLost(1, "tasks.charge", 2, FAILURE),
    errors.StepCancelled(1, "tasks.charge", 2, FAILURE),
    errors.ChildWorkflowError("order-42.1.child-1", "ship", 1, "failed", FAILURE),
    errors.ExternalWorkflowError("w-2", 1, "closed", FAILURE),
    errors.WorkflowUpdateFailed("w-1", "add", "u-1", "failed", FAILURE),
    errors.WorkflowUpdateRejected("w-1", "add", "u-1", "too many"),
    errors.ActivationFailed("bug", "KeyError: x", "sagas/order.py:57", "tb", "A", "B"),
    errors.PayloadSealed("order-1.1", "its key was shredded"),
    errors.StoreUnavailable("append", "connection refused"),
    errors.BlobUnavailable("blob 21ff", "is not in /var/blobs"),
    errors.QueryTimeout("w-1", "count", 500),
    errors.ActivationInterrupted(),
    errors.RunEvicted(),
    errors.CompleteLater(),
    errors.ContinueAsNew("order", [1], {"more": True}),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_error_survives_pickle_and_rebuild_from_args(error: BaseException) -> None:
    for copy in (pickle.loads(pickle.dumps(error)), type(error)(*error.args)):
        assert type(copy) is type(error)
        assert str(copy) == str(error)
        assert vars(copy) == vars(error)


def test_every_class_has_an_example_above() -> None:
    defined = {
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and value.__module__ == errors.__name__
    }
    assert {type(error) for error in ERRORS} == defined


def test_tree_in_the_module_docstring_is_the_tree() -> None:
    lines = re.findall(
        r"^([│ ├└─]*)([A-Z]\w+) +\S", (errors.__doc__ or "").partition("\n\n")[2], re.MULTILINE
    )
    parents: dict[str, str] = {}
    path: list[str] = []
    for branch, name in lines:
        depth = len(branch) // 4
        path[depth:] = [name]
        parents[name] = path[depth - 1] if branch.endswith("── ") else ""
    drawn = {name: parent for name, parent in parents.items() if hasattr(errors, name)}
    for error in ERRORS:
        name, base = type(error).__name__, type(error).__bases__[0].__name__
        assert name in drawn, f"draw {name}"
        assert drawn[name] in (base, ""), f"{name} derives from {base}"


def test_control_flow_is_no_exception_that_user_code_eats() -> None:
    for kind in (errors.ActivationInterrupted, errors.RunEvicted):
        assert not issubclass(kind, Exception)


def test_a_failure_keeps_declared_type_causes_and_no_more_than_fits() -> None:
    try:
        try:
            raise KeyError("x" * (2 * FAILURE_MESSAGE_CHARS_MAX))
        except KeyError as error:
            raise errors.ApplicationError(
                "no",
                "OutOfStock",
                non_retryable=True,
                next_retry_delay=timedelta(seconds=2),
                details=[1],
            ) from error
    except errors.ApplicationError as error:
        failure = failure_of(error)
    assert (failure.type, failure.message, failure.non_retryable) == ("OutOfStock", "no", True)
    assert (failure.next_retry_delay_ms, failure.details) == (2000, [1])
    assert failure.cause is not None
    assert failure.cause.type == "KeyError"
    assert len(failure.cause.message) == FAILURE_MESSAGE_CHARS_MAX
    assert "test_errors.py" in failure.traceback
    assert Failure.from_json(failure.as_json()) == failure


def test_a_chain_of_causes_is_cut() -> None:
    error: BaseException = KeyError("first")
    for n in range(2 * FAILURE_CAUSES_MAX):
        follower = ValueError(str(n))
        follower.__cause__ = error
        error = follower
    depth, failure = 0, failure_of(error)
    while failure.cause is not None:
        depth, failure = depth + 1, failure.cause
    assert depth == FAILURE_CAUSES_MAX
