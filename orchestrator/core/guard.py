"""Keeps clock, chance and the outside world out of workflow code.

G1  Acts only inside an activation, on the thread that runs it; elsewhere everything is as ever.
G2  A refusal is raised where it happened *and* kept by the execution: swallowing it does not help.
G3  Machinery that runs within user code is excused: imports, logging, tracebacks, finalizers, and
    what listens to the garbage collector.

Three nets, because no single one catches everything: wrapped functions of modules (``time.time``),
names swapped in the modules that define workflows (``from time import time``, ``datetime``), and an
audit hook for what happens in C (``open``, sockets, processes, threads).  It is no sandbox: code
that wants to get around it can.  It is for the mistake, not for the malice.
"""

import asyncio
import functools
import gc
import inspect
import os
import random
import secrets
import sys
import threading
import time
import uuid
from asyncio import events
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any

from orchestrator.core import guarded_datetime, waits
from orchestrator.core.loop import WorkflowLoop
from orchestrator.core.places import is_bottom

_CLOCK = "use workflow.now() or workflow.time()"
_CHANCE = "use workflow.random()"
_BYTES = "use workflow.random().randbytes(n)"
_STEP = "let a step do it: await workflow.step(task, …)"
_THREAD = "use asyncio.create_task() for concurrency, and a step for work"

#: Whose calls are excused if they call themselves.
_EXCUSED_CALLERS = frozenset({"asyncio", "orchestrator"})
#: Below whose frames everything is excused: what they call is none of the workflow's doing.
_EXCUSED_SUBTREES = frozenset(
    {
        *("importlib", "_frozen_importlib", "_frozen_importlib_external", "zipimport", "pkgutil"),
        *("logging", "warnings", "traceback", "linecache", "tokenize", "pdb", "faulthandler"),
    }
)

_WRAPPED: dict[ModuleType, dict[str, str]] = {
    time: dict.fromkeys(
        (
            *("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"),
            *("process_time", "process_time_ns", "thread_time", "thread_time_ns"),
            *("clock_gettime", "clock_gettime_ns"),
        ),
        _CLOCK,
    )
    | {"sleep": "use await workflow.sleep(…)"},
    random: dict.fromkeys(
        (
            *("random", "uniform", "triangular", "randint", "choice", "randrange", "sample"),
            *("shuffle", "choices", "normalvariate", "lognormvariate", "expovariate", "gauss"),
            *("vonmisesvariate", "gammavariate", "betavariate", "paretovariate", "binomialvariate"),
            *("weibullvariate", "getstate", "setstate", "getrandbits", "randbytes", "seed"),
        ),
        _CHANCE,
    ),
    uuid: dict.fromkeys(("uuid1", "uuid4", "uuid6", "uuid7"), "use workflow.uuid4()"),
    os: dict.fromkeys(("urandom", "getrandom"), _BYTES),
    secrets: dict.fromkeys(
        ("token_bytes", "token_hex", "token_urlsafe", "randbelow", "choice", "randbits"),
        "secrets must not lie in a history; " + _STEP,
    ),
}
#: Functions of ``time`` that read the clock unless they are given an instant; its position.
_CLOCK_BY_DEFAULT = {"localtime": 0, "gmtime": 0, "ctime": 0, "asctime": 0, "strftime": 1}

_AUDITED = {
    "open": ("open()", _STEP),
    "time.sleep": ("time.sleep()", "use await workflow.sleep(…)"),
    "_thread.start_new_thread": ("starting a thread", _THREAD),
    "_thread.start_joinable_thread": ("starting a thread", _THREAD),
    "builtins.input": ("input()", "use await workflow.signal(…) to hear from a person"),
    **{
        event: (f"{event}()", _STEP)
        for event in (
            *("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty"),
            *("os.posix_spawn", "os.spawn", "os.listdir", "os.scandir", "os.remove", "os.rename"),
            *("os.mkdir", "os.rmdir", "sqlite3.connect"),
            *("socket.__new__", "socket.connect", "socket.bind", "socket.sendto"),
            *("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"),
            *("socket.gethostname", "socket.getnameinfo", "socket.sendmsg"),
        )
    },
}

#: What `adopt` swaps: by the identity of the original, which is kept alive beside its guarded form.
_swaps: dict[int, tuple[object, object]] = {}
_adopted: set[int] = set()
_lock = threading.Lock()


def install() -> None:
    """Put the guard up in this process.  Idempotent; it cannot be taken down.

    For processes that run workflow code: orchestrator, replayer, tests.  Before workflows are
    imported or after: both work.
    """
    with _lock:
        if _swaps:
            return
        for module, names in _WRAPPED.items():
            for name, instead in names.items():
                if hasattr(module, name):
                    _put(module, name, _refusing(getattr(module, name), module, instead))
        for name, position in _CLOCK_BY_DEFAULT.items():
            _put(time, name, _refusing_without(getattr(time, name), position))
        for name, ordered in waits.ORDERED:
            original = getattr(asyncio, name)
            guarded = _ordered_here(original, ordered)
            _put(asyncio, name, guarded)
            setattr(asyncio.tasks, name, guarded)
        random.Random.seed = _seed_by_value(random.Random.seed)  # type: ignore[method-assign]
        threading.Thread.start = _refusing(  # type: ignore[method-assign]
            threading.Thread.start, threading, _THREAD
        )
        for real, swapped in guarded_datetime.swaps(_check):
            _swaps[id(real)] = real, swapped
        sys.addaudithook(_audit)


def refused_calls() -> dict[str, str]:
    """Return what is refused inside workflows, by dotted name, and what to write instead."""
    wrapped = {
        f"{module.__name__}.{name}": instead
        for module, names in _WRAPPED.items()
        for name, instead in names.items()
    }
    by_default = {f"time.{name}": _CLOCK for name in _CLOCK_BY_DEFAULT}
    threads = {
        "threading.Thread.start": _THREAD,
        "open": _STEP,
        "input": _AUDITED["builtins.input"][1],
    }
    return {**wrapped, **by_default, **threads}


def adopt(names: dict[str, Any]) -> None:
    """Swap, in a module's globals, names bound to what is guarded.  Without `install` nothing."""
    for name, value in list(names.items()):
        swap = _swaps.get(id(value))
        if swap is not None and swap[0] is value:
            names[name] = swap[1]


def adopt_once(function: Callable[..., Any]) -> None:
    """`adopt` the module that defines `function`, unless that has been done."""
    names = getattr(inspect.unwrap(function), "__globals__", None)
    if _swaps and names is not None and id(names) not in _adopted:
        _adopted.add(id(names))
        adopt(names)


def _put(module: ModuleType, name: str, guarded: object) -> None:
    original = getattr(module, name)
    _swaps[id(original)] = original, guarded
    setattr(module, name, guarded)


def _check(call: str, instead: str, depth: int = 2) -> None:
    """Refuse `call` if workflow code made it; `depth` frames up is who called."""
    loop = events._get_running_loop()
    if type(loop) is WorkflowLoop and not _is_excused(sys._getframe(depth)):
        loop.host.refuse(call, instead)


def _is_excused(frame: FrameType | None) -> bool:
    is_caller = True
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        package = module.partition(".")[0]
        if package in _EXCUSED_SUBTREES or (is_caller and package in _EXCUSED_CALLERS):
            return True
        # Either runs wherever the garbage collector happens to; it is nobody's doing.
        if frame.f_code.co_name == "__del__" or _is_gc_callback(frame):
            return True
        # Not to the end of the stack: the engine may well have been started by an import.
        if is_bottom(frame):
            return False
        is_caller = False
        frame = frame.f_back
    return False


def _is_gc_callback(frame: FrameType) -> bool:
    return any(
        getattr(function, "__code__", None) is frame.f_code
        for callback in gc.callbacks
        for function in (callback, inspect.getattr_static(type(callback), "__call__", None))
    )


def _refusing(original: Callable[..., Any], module: ModuleType, instead: str) -> Callable[..., Any]:
    call = f"{module.__name__}.{original.__qualname__.removeprefix('Random.')}()"

    @functools.wraps(original)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        _check(call, instead)
        return original(*args, **kwargs)

    return guarded


def _refusing_without(original: Callable[..., Any], position: int) -> Callable[..., Any]:
    call = f"time.{original.__name__}() of this moment"

    @functools.wraps(original)
    def guarded(*args: Any) -> Any:
        if len(args) <= position or args[position] is None:
            _check(call, _CLOCK)
        return original(*args)

    return guarded


def _seed_by_value(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        if a is None:
            # Above is Random.__init__, and above that who wanted the generator.
            _check("random.Random() without a seed", _CHANCE)
        original(self, a, version)

    return seed


def _ordered_here(original: Callable[..., Any], ordered: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def choose(*args: Any, **kwargs: Any) -> Any:
        if type(events._get_running_loop()) is WorkflowLoop:
            return ordered(*args, **kwargs)
        return original(*args, **kwargs)

    if inspect.iscoroutinefunction(original) and hasattr(inspect, "markcoroutinefunction"):
        inspect.markcoroutinefunction(choose)
    return choose


def _audit(event: str, _args: tuple[Any, ...]) -> None:
    refused = _AUDITED.get(event)
    if refused is not None:
        _check(*refused)
