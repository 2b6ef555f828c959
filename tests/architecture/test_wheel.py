"""The wheel holds the package and its scripts, and none of what the repository ships beside it."""

import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.architecture.tree import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files in a wheel built from this tree."""
    target = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    run = subprocess.run(
        [*build, "--directory", str(target)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    (built,) = target.glob("*.whl")
    with ZipFile(built) as archive:
        return set(archive.namelist())


def test_wheel_holds_orchestrator_alone(wheel: set[str]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {name.partition("/")[0] for name in wheel} == {
        "orchestrator",
        f"celery_orchestrator-{version}.dist-info",
    }


def test_wheel_holds_every_module_and_script(wheel: set[str]) -> None:
    package = ROOT / "orchestrator"
    wanted = {
        path.relative_to(ROOT).as_posix()
        for pattern in ("*.py", "*.lua", "py.typed")
        for path in package.rglob(pattern)
    }
    assert "orchestrator/py.typed" in wanted
    assert wanted <= wheel, f"missing from the wheel: {sorted(wanted - wheel)}"


def test_wheel_brings_its_licence(wheel: set[str]) -> None:
    assert any(Path(name).name == "LICENSE" for name in wheel)
