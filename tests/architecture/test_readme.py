"""The program in README.md is one that loads, and says what the page says of it."""

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.architecture.tree import ROOT

README = (ROOT / "README.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
#: Prints the names that the program gives to its workflows and tasks; connects to nothing.
ASK = (
    "import json, shop;"
    "tasks = [name for name in shop.app.tasks if not name.startswith('celery.')];"
    "print(json.dumps({'workflows': list(shop.orc.registry), 'tasks': tasks}))"
)


def test_program_is_short() -> None:
    (program,) = PROGRAMS
    assert len([line for line in program.splitlines() if line.strip()]) <= 22


def test_program_defines_the_workflow_and_the_tasks_that_its_output_shows(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(PROGRAMS[0])
    # In a process of its own: a Celery app makes itself the current one of its process.
    run = subprocess.run(
        [sys.executable, "-c", ASK], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert [f"type      {name}" in README for name in found["workflows"]] == [True]
    shown = set(re.findall(r"(?:task|undo)=(shop\.\w+)", README))
    assert shown
    assert shown <= set(found["tasks"])
