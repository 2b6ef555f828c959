"""What about this process decides how numbers are rounded, and how it differs from another's.

EN1  Equal facts, equal bits: everything that was measured to change the bits of a training is a
     fact (versions, the BLAS kernel and its threads, the instructions numpy may use, switches of
     the math libraries).  Where a kernel cannot be asked for, the processor's model stands for it.
EN2  An environment is its facts and nothing else: not the host, not the time, not what else
     happens to be loaded, so that two workers of one class write the same checkpoint.  Libraries
     beside numpy count where a trainer names them.
EN3  Facts can change in a living process (a library sets its threads): each call looks again.

Equal classes are a promise of equal bits for what runs on the processor; of other devices only
name and version are told apart.
"""

import importlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from orchestrator.core.values import Json, digest
from orchestrator.training.errors import BadRecord

#: In front of the facts in the digest: another list of facts is another scheme.
SCHEME = "environment:1"
#: Settings of math libraries that change bits and can be seen nowhere else.
SWITCHES = ("MKL_CBWR", "ONEDNN_MAX_CPU_ISA", "CUBLAS_WORKSPACE_CONFIG")
#: What a fact says where nothing can be found out.
UNKNOWN = "unknown"
#: Facts of one environment: four libraries with half a dozen each stay far below.
FACTS_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The facts that decide rounding, by name (EN1)."""

    facts: Mapping[str, str]

    @property
    def class_sha256(self) -> str:
        """Digest of the facts, in hex: equal for environments that give equal bits (EN2)."""
        return digest({"scheme": SCHEME, "facts": dict(self.facts)})

    def as_json(self) -> dict[str, Json]:
        """Return what `from_json` reads; the class stands in it for people and for queries."""
        return {"class": self.class_sha256, "facts": dict(self.facts)}

    @staticmethod
    def from_json(value: Json | Mapping[str, Json]) -> "Environment":
        """Return the environment that `as_json` wrote.

        Raises:
            BadRecord: Not such JSON, or its class is not that of its facts.
        """
        if not isinstance(value, Mapping) or value.keys() != {"class", "facts"}:
            raise BadRecord("an environment", repr(value)[:60], "an object of class and facts")
        found = Environment(facts=_texts(value["facts"]))
        if value["class"] != found.class_sha256:
            raise BadRecord("an environment's class", str(value["class"])[:64], found.class_sha256)
        return found


def fingerprint(uses: Sequence[str] = ()) -> Environment:
    """Return this process's environment for code that uses numpy and the packages `uses` names.

    Packages are named as they are imported ("sklearn", "scipy", "torch"); each is imported, so that
    what it sets is set.  Takes some ten microseconds after the first call (EN3).

    Raises:
        ImportError: A package that is not installed.
    """
    packages = ("numpy", *sorted({*uses} - {"numpy"}))
    facts = dict(_fixed_facts())
    for package in packages:
        facts[package] = _version(package)
        importlib.import_module(_LOADS.get(package, package))
    facts |= _math_libraries(packages)
    if "torch" in packages:
        facts |= _torch_facts(importlib.import_module("torch"))
    facts |= {name: os.environ[name] for name in SWITCHES if name in os.environ}
    return Environment(facts=facts)


def differences(there: Environment, here: Environment) -> tuple[str, ...]:
    """Return in words how `here` differs from what was recorded; empty for one class.

    Like "numpy 2.4.6 here, 2.3.1 there".
    """
    words = []
    for name in dict.fromkeys((*here.facts, *there.facts)):
        found, recorded = here.facts.get(name, "none"), there.facts.get(name, "none")
        if found != recorded:
            words.append(_difference(name, found, recorded))
    return tuple(words)


def _difference(name: str, found: str, recorded: str) -> str:
    if name != "SIMD of numpy":
        return f"{name} {found} here, {recorded} there"
    more = [part for part in found.split() if part not in recorded.split()]
    less = [part for part in recorded.split() if part not in found.split()]
    parts = [f"{' '.join(more)} here only"] if more else []
    parts += [f"{' '.join(less)} there only"] if less else []
    return f"{name}: {', '.join(parts) or f'{found} here, {recorded} there'}"


@lru_cache(maxsize=1)
def _fixed_facts() -> Mapping[str, str]:
    """Return the facts that hold for the life of a process."""
    libc = " ".join(part for part in platform.libc_ver() if part)
    return {
        "machine": platform.machine() or UNKNOWN,
        # Bug-fix releases change no arithmetic; 3.12 changed how floats are summed.
        "Python": f"{sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor}",
        # Where numpy has no kernel of its own, exp and its kind are the C library's.
        "libc": libc or UNKNOWN,
        "SIMD of numpy": _simd(),
    }


def _simd() -> str:
    """Return the instruction sets that this numpy has kernels for and may use here.

    ``NPY_DISABLE_CPU_FEATURES`` shows in it.  What the processor has beyond the kernels does not
    matter.  There is no public name for it; `numpy.show_config` tells of the build only.
    """
    try:
        built: Any = importlib.import_module("numpy._core._multiarray_umath")
        kernels = (*built.__cpu_baseline__, *built.__cpu_dispatch__)
        return " ".join(name for name in kernels if built.__cpu_features__.get(name)) or "none"
    except (ImportError, AttributeError):
        return UNKNOWN


#: Packages that load their math libraries only with a part of theirs; without it the class would
#: depend on what a process happened to have used before.
_LOADS = {"scipy": "scipy.linalg"}


@lru_cache(maxsize=32)
def _version(package: str) -> str:
    module: Any = importlib.import_module(package)
    found = getattr(module, "__version__", None)
    return str(found) if found is not None else UNKNOWN


@lru_cache(maxsize=4)
def _controller(_loaded: int) -> ThreadpoolController:
    return ThreadpoolController()


def _pools() -> ThreadpoolController:
    """Return the math libraries that are loaded; looked up again whenever modules were imported."""
    return _controller(len(sys.modules))


def _math_libraries(packages: Sequence[str]) -> dict[str, str]:
    """Return name, version, kernel and threads of the BLAS and OpenMP that `packages` use."""
    facts: dict[str, str] = {}
    for library in _pools().info():
        owner = _owner(library["filepath"])
        if owner not in packages and (owner or not _uses_the_system(packages)):
            continue
        name = f"{_KINDS[library['user_api']]} of {owner or 'the system'}"
        while name in facts:
            name += "'"
        facts[name] = f"{library['internal_api']} {library.get('version') or ''}".rstrip()
        facts[f"{name}, threads"] = str(library["num_threads"])
        if library["user_api"] == "blas":
            facts[f"{name}, kernel"] = library.get("architecture") or _processor()
            facts[f"{name}, threading"] = library.get("threading_layer") or UNKNOWN
    if not any(name.startswith("BLAS") for name in facts):
        build: Any = np.show_config(mode="dicts")
        blas = build.get("Build Dependencies", {}).get("blas", {})
        facts["BLAS of numpy"] = f"{blas.get('name', UNKNOWN)} {blas.get('version', UNKNOWN)}"
        facts["BLAS of numpy, kernel"] = _processor()
    return facts


def _uses_the_system(packages: Sequence[str]) -> bool:
    """Return whether a library that came in no wheel can be one that `packages` use.

    A numpy with a BLAS of its own uses no other; of a package beside it that is not known.
    """
    own = any(_owner(library["filepath"]) == "numpy" for library in _pools().info())
    return len(packages) > 1 or not own


#: What threadpoolctl calls them, and what people do.
_KINDS = {"blas": "BLAS", "openmp": "OpenMP"}


@lru_cache(maxsize=1)
def _processor() -> str:
    """Return the model of the processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                name, _, model = line.partition(":")
                if name.strip() == "model name":
                    return model.strip()
    except OSError as error:
        # Not Linux, or not to be read: Python knows the family at least.
        return platform.processor() or f"{UNKNOWN} ({error.strerror})"
    return platform.processor() or UNKNOWN


def _owner(path: str) -> str:
    """Return the package whose wheel a library came in; empty for one of the system.

    Wheels keep their libraries in ``numpy.libs``, ``scipy.libs``, ``torch/lib``.
    """
    for part in reversed(path.split("/")[:-1]):
        if part.endswith(".libs"):
            return _IMPORTED_AS.get(part.removesuffix(".libs"), part.removesuffix(".libs"))
        if part == "torch":
            return part
    return ""


#: Folders that are not named like the package they belong to.
_IMPORTED_AS = {"scikit_learn": "sklearn"}


def _torch_facts(torch: Any) -> dict[str, str]:
    facts = {
        "torch threads": str(torch.get_num_threads()),
        "torch kernels": str(torch.backends.cpu.get_cpu_capability()),
        "torch deterministic": str(torch.are_deterministic_algorithms_enabled()),
    }
    if torch.cuda.is_available():
        facts["CUDA"] = str(torch.version.cuda)
        facts["GPU"] = str(torch.cuda.get_device_name(0))
    return facts


def _texts(value: Json) -> dict[str, str]:
    if not isinstance(value, Mapping) or len(value) > FACTS_MAX:
        raise BadRecord("an environment's facts", repr(value)[:60], f"up to {FACTS_MAX} texts")
    for name, text in value.items():
        if not isinstance(text, str):
            raise BadRecord("an environment's facts", f"{name}: {text!r}"[:60], "texts")
    return {name: str(text) for name, text in value.items()}
