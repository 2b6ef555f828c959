"""Imports flow one way.  MAY_IMPORT is the architecture; ARCHITECTURE.md only explains it."""

import subprocess
import sys
from pathlib import Path

import orchestrator
from tests.architecture.tree import (
    PRODUCT,
    for_every,
    imported,
    is_inside,
    module_name,
    python_files,
)

CORE = "orchestrator.core"
STORE_PORTS = "orchestrator.store.ports"
ENGINE_PORTS = "orchestrator.engine.ports"
EDGES = ["orchestrator.payloads", "orchestrator.blobs", "orchestrator.step"]

#: What a part of the product may import of the product, beside itself.
MAY_IMPORT: dict[str, list[str]] = {
    CORE: [],
    "orchestrator.store": [CORE],
    # Keys for one thing: which partition an id belongs to is part of the layout.
    "orchestrator.engine": [
        *(CORE, STORE_PORTS, "orchestrator.store.permit_ports", "orchestrator.store.keys"),
    ],
    # Payloads on their way out of the process and back; whose they are it does not know.
    "orchestrator.sealing": [CORE, STORE_PORTS, ENGINE_PORTS],
    # Single modules around the layers: each joins two things and knows no third.
    "orchestrator.workflow": [CORE],
    "orchestrator.step": [CORE, STORE_PORTS],
    "orchestrator.payloads": [CORE],
    "orchestrator.blobs": [CORE],
    "orchestrator.dispatch": [CORE, STORE_PORTS, ENGINE_PORTS, "orchestrator.worker.header"],
    "orchestrator.local": [
        *(CORE, STORE_PORTS, ENGINE_PORTS, *EDGES),
        # A local step is called, and its outcome worded, as a worker does it.
        *("orchestrator.worker.arguments", "orchestrator.worker.outcomes"),
        "orchestrator.worker.intercepting",
    ],
    # Measures what an owner tells of its work.
    "orchestrator.metrics": [CORE, "orchestrator.engine.observing"],
    "orchestrator.embedded": [CORE],
    "orchestrator.worker": [CORE, "orchestrator.store", ENGINE_PORTS, *EDGES],
    "orchestrator.client": [
        *(CORE, "orchestrator.store", ENGINE_PORTS, "orchestrator.payloads"),
        "orchestrator.sealing.parts",
        # Pure: the instants that a client lists are those that the engine computes.
        "orchestrator.engine.schedule_times",
        # What comes by a token is worded as a worker words it.
        "orchestrator.worker.outcomes",
    ],
    "orchestrator.app": [
        *(CORE, "orchestrator.store", "orchestrator.engine", *EDGES),
        *("orchestrator.dispatch", "orchestrator.local", "orchestrator.workflow"),
        *("orchestrator.worker", "orchestrator.client", "orchestrator.sealing"),
    ],
    # Histories against the code of an app; given files it reaches no store.
    "orchestrator.replaying": [
        *(CORE, "orchestrator.client", "orchestrator.app"),
        *("orchestrator.engine.references", "orchestrator.engine.watchdog"),
    ],
    # Reads source, and runs none of it.
    "orchestrator.checking": [CORE],
    "orchestrator.cli": ["orchestrator"],
    # A whole engine for tests; nothing of the product may use it (see below).
    "orchestrator.testing": ["orchestrator"],
    # Looks at runs as any client does.
    "orchestrator.flower": [CORE, STORE_PORTS, "orchestrator.client", "orchestrator.app"],
    # Bytes, arrays, files and buckets: training knows nothing of workflows, nor of what runs them.
    "orchestrator.training": ["orchestrator.core.errors", "orchestrator.core.values"],
    # The public names, each loaded when it is asked for.
    "orchestrator.__init__": ["orchestrator"],
    # The applications see public names, never a layer.
    "tasks": [
        *(f"orchestrator.{name}" for name in orchestrator.__all__),
        "orchestrator.training",
    ],
    "sagas": [
        *(f"orchestrator.{name}" for name in orchestrator.__all__),
        *("orchestrator.training", "tasks"),
    ],
    # The guided tour runs servers and reads histories, as an operator's tool does.
    "sagas.demo": ["orchestrator", "sagas", "tasks"],
}

#: The foreign packages that a layer below the Celery integration may know.
MAY_IMPORT_FOREIGN: dict[str, list[str]] = {
    CORE: ["numpy"],  # in one file of it: see CORE_STDLIB_EXTRA
    "orchestrator.store": ["redis"],
    "orchestrator.engine": ["cronsim"],
    "orchestrator.sealing": ["cryptography"],
    "orchestrator.workflow": [],
    # Only numpy must be there: the others are extras, imported where they are needed.
    "orchestrator.training": [
        *("numpy", "threadpoolctl", "boto3", "botocore", "sklearn", "torch"),
        *("prometheus_client", "mlflow", "tensorboard"),
    ],
}

#: Sans-IO: nothing here tells the time, rolls a die, reaches a socket or starts a thread.
CORE_STDLIB = [
    *("__future__", "abc", "asyncio", "binascii", "bisect", "collections", "contextlib"),
    *("contextvars", "copy", "dataclasses", "datetime", "enum", "functools", "hashlib", "heapq"),
    *("inspect", "itertools", "json", "linecache", "math", "operator", "re", "sys"),
    *("traceback", "types", "typing", "unicodedata", "typing_extensions", "warnings", "weakref"),
    # Types of values that are given their seed or their bits.
    *("random.Random", "uuid.UUID"),
]
#: What single files of the core need beyond it, and why.
CORE_STDLIB_EXTRA: dict[str, list[str]] = {
    # Stands in front of all that workflow code may not reach, so it has to name it.
    "orchestrator/core/guard.py": ["gc", "os", "random", "secrets", "threading", "time", "uuid"],
    # Keeps a coroutine that cannot be ended from ever being collected; calls nothing else.
    "orchestrator/core/unwinding.py": ["ctypes"],
    # Makes numpy's seeded generators, for a workflow that asks for them.
    "orchestrator/core/generators.py": ["numpy"],
    # Makes the seeded generators, and ids from them.
    "orchestrator/core/randomness.py": ["random", "uuid"],
}


def part_of(path: Path) -> str | None:
    """Return the most special row of MAY_IMPORT that a file falls under."""
    if path.as_posix() == "orchestrator/__init__.py":
        return "orchestrator.__init__"
    rows = [row for row in MAY_IMPORT if is_inside(module_name(path), row)]
    return max(rows, key=len, default=None)


FILES = python_files(*PRODUCT)


@for_every(FILES)
def test_module_imports_only_what_its_layer_may(path: Path) -> None:
    part = part_of(path)
    assert part is not None, f"{path} belongs to no layer: give it a row in MAY_IMPORT"
    for line, name in imported(path):
        if is_inside(name, *PRODUCT):
            assert is_inside(name, part, *MAY_IMPORT[part]), f"{path}:{line} imports {name}"


@for_every([path for path in FILES if part_of(path) != "orchestrator.testing"])
def test_the_product_does_not_use_its_test_kit(path: Path) -> None:
    for line, name in imported(path):
        assert not is_inside(name, "orchestrator.testing"), f"{path}:{line} imports {name}"


@for_every([path for path in FILES if part_of(path) in MAY_IMPORT_FOREIGN])
def test_lower_layers_know_no_foreign_package_but_their_own(path: Path) -> None:
    may = MAY_IMPORT_FOREIGN[part_of(path) or ""]
    for line, name in imported(path):
        if not is_inside(name, *PRODUCT) and name.partition(".")[0] not in sys.stdlib_module_names:
            assert is_inside(name, *may), f"{path}:{line} imports {name}"


@for_every([path for path in FILES if part_of(path) == CORE])
def test_core_stays_without_clock_chance_and_io(path: Path) -> None:
    may = [*CORE_STDLIB, *CORE_STDLIB_EXTRA.get(path.as_posix(), [])]
    for line, name in imported(path):
        if not is_inside(name, CORE):
            assert is_inside(name, *may), f"core must stay sans-IO: {path}:{line} imports {name}"


def test_exceptions_of_the_core_are_still_needed() -> None:
    for path, extra in CORE_STDLIB_EXTRA.items():
        names = [name for _, name in imported(Path(path))]
        for package in extra:
            assert any(is_inside(name, package) for name in names), f"{path}: {package} is unused"


def loaded_by(module: str) -> set[str]:
    """Return the top-level packages that a fresh interpreter holds after importing `module`."""
    code = (
        f"import {module}, sys; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_package_and_core_load_without_redis_celery_or_pydantic() -> None:
    core = [module_name(path) for path in FILES if part_of(path) == CORE]
    assert "orchestrator.core.events" in core
    loaded = loaded_by(", ".join(["orchestrator", *core]))
    assert not loaded & {
        "numpy",
        "redis",
        "celery",
        "kombu",
        "billiard",
        "pydantic",
        "rich",
        "click",
    }


def test_engine_loads_without_redis_or_celery() -> None:
    engine = [module_name(path) for path in FILES if part_of(path) == "orchestrator.engine"]
    assert not loaded_by(", ".join(engine)) & {"redis", "celery", "kombu", "billiard"}


def test_training_loads_with_numpy_alone() -> None:
    extras = ("objects_s3", "s3_answers", "torch_state", "torch_trainer")
    training = [
        module_name(path)
        for path in FILES
        if part_of(path) == "orchestrator.training" and path.stem not in extras
    ]
    assert "orchestrator.training.checkpoints" in training
    loaded = loaded_by(", ".join(training))
    assert "numpy" in loaded
    assert not loaded & {"redis", "celery", "boto3", "botocore", "sklearn", "torch", "pydantic"}
