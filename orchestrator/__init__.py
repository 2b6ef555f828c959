"""Durable workflows in plain ``async def`` Python, beside Celery workers and in their Redis.

The public names, each loaded when it is first asked for, so that `orchestrator.core` (and a task
that only needs `orchestrator.step`) loads neither Redis nor pydantic.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator import step as step
    from orchestrator import workflow as workflow
    from orchestrator.app import Orchestrator as Orchestrator
    from orchestrator.client.batch import Batch as Batch
    from orchestrator.client.batch import BatchReport as BatchReport
    from orchestrator.client.handle import AsyncRunHandle as AsyncRunHandle
    from orchestrator.client.handle import RunHandle as RunHandle
    from orchestrator.client.history_file import RecordedHistory as RecordedHistory
    from orchestrator.client.history_file import read_history_file as read_history_file
    from orchestrator.client.listing import RunPage as RunPage
    from orchestrator.client.schedule_spec import Schedule as Schedule
    from orchestrator.client.schedule_spec import ScheduleAction as ScheduleAction
    from orchestrator.client.schedule_spec import ScheduleCalendarSpec as ScheduleCalendarSpec
    from orchestrator.client.schedule_spec import ScheduleIntervalSpec as ScheduleIntervalSpec
    from orchestrator.client.schedule_spec import ScheduleRange as ScheduleRange
    from orchestrator.client.schedule_spec import ScheduleSpec as ScheduleSpec
    from orchestrator.client.schedules import AsyncScheduleHandle as AsyncScheduleHandle
    from orchestrator.client.schedules import ScheduleDescription as ScheduleDescription
    from orchestrator.client.schedules import ScheduleHandle as ScheduleHandle
    from orchestrator.client.step_handle import AsyncStepHandle as AsyncStepHandle
    from orchestrator.client.step_handle import StepHandle as StepHandle
    from orchestrator.client.summary import RunSummary as RunSummary
    from orchestrator.client.token_handle import AsyncTokenHandle as AsyncTokenHandle
    from orchestrator.client.token_handle import TokenHandle as TokenHandle
    from orchestrator.client.update_handle import AsyncUpdateHandle as AsyncUpdateHandle
    from orchestrator.client.update_handle import UpdateHandle as UpdateHandle
    from orchestrator.client.workflow import Workflow as Workflow
    from orchestrator.core.errors import ApplicationError as ApplicationError
    from orchestrator.core.errors import ChildWorkflowError as ChildWorkflowError
    from orchestrator.core.errors import ConfigurationError as ConfigurationError
    from orchestrator.core.errors import DuplicateRun as DuplicateRun
    from orchestrator.core.errors import ExternalWorkflowError as ExternalWorkflowError
    from orchestrator.core.errors import ForbiddenInWorkflow as ForbiddenInWorkflow
    from orchestrator.core.errors import HistoryFileError as HistoryFileError
    from orchestrator.core.errors import InvalidFilter as InvalidFilter
    from orchestrator.core.errors import InvalidPayload as InvalidPayload
    from orchestrator.core.errors import InvalidWorkflowId as InvalidWorkflowId
    from orchestrator.core.errors import NondeterminismError as NondeterminismError
    from orchestrator.core.errors import OrchestratorError as OrchestratorError
    from orchestrator.core.errors import PayloadSealed as PayloadSealed
    from orchestrator.core.errors import PayloadTooLarge as PayloadTooLarge
    from orchestrator.core.errors import QueryTimeout as QueryTimeout
    from orchestrator.core.errors import RunClosed as RunClosed
    from orchestrator.core.errors import RunExists as RunExists
    from orchestrator.core.errors import RunNotFound as RunNotFound
    from orchestrator.core.errors import StepCancelled as StepCancelled
    from orchestrator.core.errors import StepClosed as StepClosed
    from orchestrator.core.errors import StepError as StepError
    from orchestrator.core.errors import StepLost as StepLost
    from orchestrator.core.errors import StepTimeout as StepTimeout
    from orchestrator.core.errors import StoreUnavailable as StoreUnavailable
    from orchestrator.core.errors import UnknownQuery as UnknownQuery
    from orchestrator.core.errors import UnknownWorkflow as UnknownWorkflow
    from orchestrator.core.errors import UsageError as UsageError
    from orchestrator.core.errors import WorkflowFailed as WorkflowFailed
    from orchestrator.core.errors import WorkflowUpdateFailed as WorkflowUpdateFailed
    from orchestrator.core.errors import WorkflowUpdateRejected as WorkflowUpdateRejected
    from orchestrator.core.failure import Failure as Failure
    from orchestrator.core.interceptors import ExecuteStep as ExecuteStep
    from orchestrator.core.interceptors import ExecuteWorkflow as ExecuteWorkflow
    from orchestrator.core.interceptors import HandleMessage as HandleMessage
    from orchestrator.core.interceptors import Interceptor as Interceptor
    from orchestrator.core.interceptors import OrderChild as OrderChild
    from orchestrator.core.interceptors import OrderStep as OrderStep
    from orchestrator.core.interceptors import QueryWorkflow as QueryWorkflow
    from orchestrator.core.interceptors import SignalWorkflow as SignalWorkflow
    from orchestrator.core.interceptors import StartWorkflow as StartWorkflow
    from orchestrator.core.interceptors import StopWorkflow as StopWorkflow
    from orchestrator.core.interceptors import UpdateWorkflow as UpdateWorkflow
    from orchestrator.core.options import StepOptions as StepOptions
    from orchestrator.core.permits import Permit as Permit
    from orchestrator.core.rates import Rate as Rate
    from orchestrator.core.retry import RETRY_UNTIL_DONE as RETRY_UNTIL_DONE
    from orchestrator.core.retry import Retry as Retry
    from orchestrator.replaying.replayer import Replayer as Replayer
    from orchestrator.sealing.aes_gcm import EncryptionCodec as EncryptionCodec
    from orchestrator.sealing.codec import PayloadCodec as PayloadCodec
    from orchestrator.sealing.keyring import Keyring as Keyring
    from orchestrator.store.permit_ports import PermitState as PermitState

__version__ = "0.1.0"

_ERRORS = "orchestrator.core.errors"
#: Where each public name lives; a module of that very name is handed out itself.
_HOMES = {
    "step": "orchestrator.step",
    "workflow": "orchestrator.workflow",
    "Orchestrator": "orchestrator.app",
    "AsyncRunHandle": "orchestrator.client.handle",
    "AsyncUpdateHandle": "orchestrator.client.update_handle",
    "UpdateHandle": "orchestrator.client.update_handle",
    "RunHandle": "orchestrator.client.handle",
    "RecordedHistory": "orchestrator.client.history_file",
    "read_history_file": "orchestrator.client.history_file",
    "Batch": "orchestrator.client.batch",
    "BatchReport": "orchestrator.client.batch",
    "RunPage": "orchestrator.client.listing",
    "Schedule": "orchestrator.client.schedule_spec",
    "ScheduleAction": "orchestrator.client.schedule_spec",
    "ScheduleCalendarSpec": "orchestrator.client.schedule_spec",
    "ScheduleIntervalSpec": "orchestrator.client.schedule_spec",
    "ScheduleRange": "orchestrator.client.schedule_spec",
    "ScheduleSpec": "orchestrator.client.schedule_spec",
    "AsyncScheduleHandle": "orchestrator.client.schedules",
    "ScheduleDescription": "orchestrator.client.schedules",
    "ScheduleHandle": "orchestrator.client.schedules",
    "AsyncStepHandle": "orchestrator.client.step_handle",
    "StepHandle": "orchestrator.client.step_handle",
    "RunSummary": "orchestrator.client.summary",
    "AsyncTokenHandle": "orchestrator.client.token_handle",
    "TokenHandle": "orchestrator.client.token_handle",
    "Workflow": "orchestrator.client.workflow",
    "EncryptionCodec": "orchestrator.sealing.aes_gcm",
    "Failure": "orchestrator.core.failure",
    "Keyring": "orchestrator.sealing.keyring",
    "PayloadCodec": "orchestrator.sealing.codec",
    "ExecuteStep": "orchestrator.core.interceptors",
    "ExecuteWorkflow": "orchestrator.core.interceptors",
    "HandleMessage": "orchestrator.core.interceptors",
    "Interceptor": "orchestrator.core.interceptors",
    "OrderChild": "orchestrator.core.interceptors",
    "OrderStep": "orchestrator.core.interceptors",
    "QueryWorkflow": "orchestrator.core.interceptors",
    "SignalWorkflow": "orchestrator.core.interceptors",
    "StartWorkflow": "orchestrator.core.interceptors",
    "StopWorkflow": "orchestrator.core.interceptors",
    "UpdateWorkflow": "orchestrator.core.interceptors",
    "StepOptions": "orchestrator.core.options",
    "Permit": "orchestrator.core.permits",
    "PermitState": "orchestrator.store.permit_ports",
    "Rate": "orchestrator.core.rates",
    "RETRY_UNTIL_DONE": "orchestrator.core.retry",
    "Retry": "orchestrator.core.retry",
    "Replayer": "orchestrator.replaying.replayer",
    "ApplicationError": _ERRORS,
    "ChildWorkflowError": _ERRORS,
    "ConfigurationError": _ERRORS,
    "DuplicateRun": _ERRORS,
    "ExternalWorkflowError": _ERRORS,
    "ForbiddenInWorkflow": _ERRORS,
    "HistoryFileError": _ERRORS,
    "InvalidFilter": _ERRORS,
    "InvalidPayload": _ERRORS,
    "InvalidWorkflowId": _ERRORS,
    "NondeterminismError": _ERRORS,
    "OrchestratorError": _ERRORS,
    "PayloadSealed": _ERRORS,
    "PayloadTooLarge": _ERRORS,
    "QueryTimeout": _ERRORS,
    "RunClosed": _ERRORS,
    "RunExists": _ERRORS,
    "RunNotFound": _ERRORS,
    "StepCancelled": _ERRORS,
    "StepClosed": _ERRORS,
    "StepError": _ERRORS,
    "StepLost": _ERRORS,
    "StepTimeout": _ERRORS,
    "StoreUnavailable": _ERRORS,
    "UnknownQuery": _ERRORS,
    "UnknownWorkflow": _ERRORS,
    "WorkflowUpdateFailed": _ERRORS,
    "WorkflowUpdateRejected": _ERRORS,
    "UsageError": _ERRORS,
    "WorkflowFailed": _ERRORS,
}

__all__ = [
    "RETRY_UNTIL_DONE",
    "ApplicationError",
    "AsyncRunHandle",
    "AsyncScheduleHandle",
    "AsyncUpdateHandle",
    "Batch",
    "BatchReport",
    "ChildWorkflowError",
    "ConfigurationError",
    "DuplicateRun",
    "EncryptionCodec",
    "ExecuteStep",
    "ExecuteWorkflow",
    "ExternalWorkflowError",
    "Failure",
    "ForbiddenInWorkflow",
    "HandleMessage",
    "HistoryFileError",
    "Interceptor",
    "InvalidFilter",
    "InvalidPayload",
    "InvalidWorkflowId",
    "Keyring",
    "NondeterminismError",
    "Orchestrator",
    "OrchestratorError",
    "OrderChild",
    "OrderStep",
    "PayloadCodec",
    "PayloadSealed",
    "PayloadTooLarge",
    "Permit",
    "PermitState",
    "QueryTimeout",
    "QueryWorkflow",
    "Rate",
    "RecordedHistory",
    "Replayer",
    "Retry",
    "RunClosed",
    "RunExists",
    "RunHandle",
    "RunNotFound",
    "RunPage",
    "RunSummary",
    "Schedule",
    "ScheduleAction",
    "ScheduleCalendarSpec",
    "ScheduleDescription",
    "ScheduleHandle",
    "ScheduleIntervalSpec",
    "ScheduleRange",
    "ScheduleSpec",
    "SignalWorkflow",
    "StartWorkflow",
    "StepCancelled",
    "StepError",
    "StepLost",
    "StepOptions",
    "StepTimeout",
    "StopWorkflow",
    "StoreUnavailable",
    "UnknownQuery",
    "UnknownWorkflow",
    "UpdateHandle",
    "UpdateWorkflow",
    "UsageError",
    "Workflow",
    "WorkflowFailed",
    "WorkflowUpdateFailed",
    "WorkflowUpdateRejected",
    "read_history_file",
    "step",
    "workflow",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(home)
    found: object = module if home == f"{__name__}.{name}" else getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
