"""What changes the bits changes the class, and is said in words; nothing else does."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.core.values import Json
from orchestrator.training import environment, threads
from orchestrator.training.environment import Environment, differences, fingerprint
from orchestrator.training.errors import BadRecord
from orchestrator.training.threads import pin_threads

#: Prints the environment, the digest of products of matrices, and that of exponentials.
PROGRAM = """
import hashlib, json
import numpy as np
from orchestrator.training.environment import fingerprint
from orchestrator.training.rng import stream
from orchestrator.training.threads import pin_threads
pin_threads(1)
a = stream(7, "a").standard_normal((257, 1031))
found = [a @ a.T, a.astype(np.float32) @ a.astype(np.float32).T]
digests = [hashlib.sha256(b"".join(x.tobytes() for x in part)).hexdigest() for part in (
    found, [np.exp(a), np.log(np.abs(a)), np.power(np.abs(a), 0.3)])]
print(json.dumps([fingerprint().as_json(), *digests]))
"""


def elsewhere(**variables: str) -> tuple[Environment, str, str]:
    """Return environment, products and exponentials of a process with these variables."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OPENBLAS_", "NPY_", "OMP_", "MKL_"))
    }
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**inherited, "PYTHONPATH": str(Path.cwd()), **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    shown, products, exponentials = json.loads(run.stdout)
    return Environment.from_json(shown), products, exponentials


def kernel(found: Environment) -> str:
    """Return the kernel of numpy's BLAS; skips where it is not an OpenBLAS that can choose."""
    if not found.facts["BLAS of numpy"].startswith("openblas"):
        pytest.skip(f"the kernels of {found.facts['BLAS of numpy']} cannot be chosen")
    return found.facts["BLAS of numpy, kernel"]


@pytest.mark.slow
def test_one_kind_of_process_is_one_class_and_rounds_alike() -> None:
    assert elsewhere() == elsewhere()


@pytest.mark.slow
def test_another_blas_kernel_is_another_class() -> None:
    one, one_products, _ = elsewhere(OPENBLAS_CORETYPE="Haswell")
    other, other_products, _ = elsewhere(OPENBLAS_CORETYPE="Sandybridge")
    if (kernel(one), kernel(other)) != ("Haswell", "Sandybridge"):
        pytest.skip(f"this machine takes {kernel(one)} and {kernel(other)} instead")
    assert one_products != other_products
    assert one.class_sha256 != other.class_sha256
    assert differences(one, other) == ("BLAS of numpy, kernel Sandybridge here, Haswell there",)


@pytest.mark.slow
def test_instructions_that_numpy_may_not_use_are_another_class() -> None:
    one, _, one_exponentials = elsewhere()
    more = [name for name in ("X86_V4", "AVX512_ICL", "AVX512_SPR") if name in _simd(one)]
    if not more:
        pytest.skip(f"numpy uses {' '.join(_simd(one))} here, none of which can be disabled")
    other, _, other_exponentials = elsewhere(NPY_DISABLE_CPU_FEATURES=" ".join(more))
    assert one_exponentials != other_exponentials
    assert one.class_sha256 != other.class_sha256
    assert differences(one, other) == (f"SIMD of numpy: {' '.join(more)} there only",)
    assert differences(other, one) == (f"SIMD of numpy: {' '.join(more)} here only",)


@pytest.mark.slow
def test_a_switch_of_a_math_library_is_another_class() -> None:
    one, other = elsewhere()[0], elsewhere(MKL_CBWR="COMPATIBLE")[0]
    assert differences(one, other) == ("MKL_CBWR COMPATIBLE here, none there",)
    assert one.class_sha256 != other.class_sha256


LATER = """
import importlib, json, sys
from orchestrator.training.environment import fingerprint
uses = json.loads(sys.argv[1])
# What was looked at before numpy was alone must not be what is seen later.
fingerprint()
before = fingerprint(uses).as_json()
for name in ("scipy.linalg", "scipy.special", "sklearn.linear_model", "sklearn.cluster"):
    importlib.import_module(name)
print(json.dumps([before, fingerprint(uses).as_json()]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("uses", [[], ["scipy"], ["scipy", "sklearn"]], ids=str)
def test_what_else_is_loaded_later_changes_no_class(uses: list[str]) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    run = subprocess.run(
        [sys.executable, "-c", LATER, json.dumps(uses)],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=True,
    )
    before, after = json.loads(run.stdout)
    assert before == after
    assert ("BLAS of scipy" in before["facts"]) == ("scipy" in uses)


def _simd(found: Environment) -> list[str]:
    return found.facts["SIMD of numpy"].split()


def test_every_fact_of_this_process_is_known() -> None:
    found = fingerprint().facts
    assert found["numpy"] == np.__version__
    assert {"machine", "Python", "libc", "SIMD of numpy", "BLAS of numpy"} <= found.keys()
    assert {"BLAS of numpy, kernel", "BLAS of numpy, threads"} <= found.keys()
    assert not [name for name, fact in found.items() if "unknown" in fact or not fact]


def test_threads_are_part_of_the_class_and_are_looked_at_again() -> None:
    if "BLAS of numpy, threads" not in fingerprint().facts:
        pytest.skip("numpy's BLAS has no threads to hold")
    with pin_threads(2):
        two = fingerprint()
        with pin_threads(1):
            one = fingerprint()
        again = fingerprint()
    assert two == again
    assert two.class_sha256 != one.class_sha256
    assert differences(two, one) == ("BLAS of numpy, threads 1 here, 2 there",)


def test_what_was_pinned_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = fingerprint()
    with pin_threads(1):
        assert {os.environ[name] for name in threads.VARIABLES} == {"1"}
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "MKL_NUM_THREADS" not in os.environ
    assert fingerprint() == before


def test_whoever_ends_first_does_not_loosen_what_another_relies_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    first, second = threads.one_thread(), threads.one_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert os.environ["OMP_NUM_THREADS"] == "1"
    second.__exit__(None, None, None)
    assert os.environ["OMP_NUM_THREADS"] == "3"


def test_torch_is_held_to_the_threads_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    class Torch:
        threads = 4

        @classmethod
        def get_num_threads(cls) -> int:
            return cls.threads

        @classmethod
        def set_num_threads(cls, threads: int) -> None:
            cls.threads = threads

    monkeypatch.setitem(sys.modules, "torch", Torch)
    with pin_threads(1):
        assert Torch.threads == 1
    assert Torch.threads == 4


def test_a_difference_names_what_is_here_and_what_was_there() -> None:
    here = fingerprint()
    there = replace(here, facts={**here.facts, "numpy": "2.3.1", "torch": "2.13.0"})
    assert differences(there, here) == (
        f"numpy {np.__version__} here, 2.3.1 there",
        "torch none here, 2.13.0 there",
    )
    assert differences(here, here) == ()


@pytest.mark.parametrize("name", sorted(fingerprint().facts))
def test_every_fact_decides_the_class_and_has_its_words(name: str) -> None:
    here = fingerprint()
    there = replace(here, facts={**here.facts, name: "another"})
    assert there.class_sha256 != here.class_sha256
    (words,) = differences(there, here)
    assert name in words
    assert "another" in words


def test_an_environment_comes_back_from_its_json() -> None:
    here = fingerprint()
    stored = json.loads(json.dumps(here.as_json()))
    assert Environment.from_json(stored) == here
    assert stored["class"] == here.class_sha256


@pytest.mark.parametrize(
    "change",
    [
        lambda shown: shown.pop("facts"),
        lambda shown: shown.update(host="a"),
        lambda shown: shown["facts"].update(numpy=2),
        lambda shown: shown["facts"].update(numpy="0.0.0"),
        lambda shown: shown.update({"class": "0" * 64}),
        lambda shown: shown.update(facts=[]),
        lambda shown: shown.update(facts={str(n): "x" for n in range(101)}),
    ],
)
def test_json_that_nothing_wrote_is_refused(change: Any) -> None:
    shown: Any = json.loads(json.dumps(fingerprint().as_json()))
    change(shown)
    with pytest.raises(BadRecord):
        Environment.from_json(shown)
    nothing: Json = None
    with pytest.raises(BadRecord):
        Environment.from_json(nothing)


class Loaded:
    """Stands for the math libraries of a process, as threadpoolctl tells of them."""

    def __init__(self, *libraries: dict[str, Any]) -> None:
        self._libraries = libraries

    def info(self) -> list[dict[str, Any]]:
        return list(self._libraries)


def blas(path: str, **more: Any) -> dict[str, Any]:
    """Return what threadpoolctl says of one BLAS."""
    return {
        "user_api": "blas",
        "internal_api": "openblas",
        "filepath": path,
        "num_threads": 1,
        "version": "0.3.31",
        "threading_layer": "pthreads",
        "architecture": "Zen",
        **more,
    }


NUMPYS = blas("/site-packages/numpy.libs/libscipy_openblas64_-1.so")
SCIPYS = blas("/site-packages/scipy.libs/libscipy_openblas-2.so", version="0.3.29")
SYSTEMS = blas("/usr/lib/openblas-pthread/libopenblasp-r0.3.21.so", version="0.3.21")
TORCHS = {
    "user_api": "openmp",
    "internal_api": "openmp",
    "num_threads": 2,
    "version": None,
    "filepath": "/site-packages/torch/lib/libgomp-a34b3233.so.1",
}


@pytest.mark.parametrize(
    ("loaded", "packages", "wanted"),
    [
        ([NUMPYS, SCIPYS], ["numpy"], {"BLAS of numpy": "openblas 0.3.31"}),
        ([NUMPYS, SYSTEMS, TORCHS], ["numpy"], {"BLAS of numpy": "openblas 0.3.31"}),
        ([SYSTEMS], ["numpy"], {"BLAS of the system": "openblas 0.3.21"}),
        (
            [NUMPYS, SCIPYS],
            ["numpy", "scipy", "sklearn"],
            {"BLAS of numpy": "openblas 0.3.31", "BLAS of scipy": "openblas 0.3.29"},
        ),
        (
            [NUMPYS, TORCHS],
            ["numpy", "torch"],
            {"BLAS of numpy": "openblas 0.3.31", "OpenMP of torch": "openmp"},
        ),
    ],
    ids=["another's wheel", "whatever else", "system's own", "scipy named", "torch named"],
)
def test_libraries_count_for_the_packages_that_use_them(
    monkeypatch: pytest.MonkeyPatch,
    loaded: list[dict[str, Any]],
    packages: list[str],
    wanted: dict[str, str],
) -> None:
    monkeypatch.setattr(environment, "_pools", lambda: Loaded(*loaded))
    found = environment._math_libraries(packages)
    assert {name: fact for name, fact in found.items() if "," not in name} == wanted


def test_a_kernel_that_cannot_be_asked_for_is_told_by_the_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quiet = blas("/opt/libmkl_rt.so.2", internal_api="mkl", architecture=None)
    for loaded in (Loaded(quiet), Loaded()):
        monkeypatch.setattr(environment, "_pools", lambda found=loaded: found)
        facts = environment._math_libraries(["numpy"])
        kernels = [fact for name, fact in facts.items() if name.endswith("kernel")]
        assert kernels == [environment._processor()]
        assert kernels[0]
