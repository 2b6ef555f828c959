"""Promise: what replay cannot repeat is found in the source, with its place and what to write."""

import importlib
import itertools
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import sagas
from orchestrator.checking.checker import check
from orchestrator.checking.findings import CODES, Finding
from orchestrator.core.errors import ConfigurationError
from tests.engine.world import definition
from tests.histories import zoo

_numbers = itertools.count()
Check = Callable[..., list[Finding]]


@pytest.fixture
def checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Write modules, import the first, and check the workflow ``run`` in it."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)

    def checked(text: str, **others: str) -> list[Finding]:
        # A name of its own: what was imported, or read, once stays.
        number = next(_numbers)
        for name, other in others.items():
            (tmp_path / f"{name}{number}.py").write_text(textwrap.dedent(other))
        name = f"checked{number}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text).replace("NUMBER", str(number)))
        importlib.invalidate_caches()
        return check({"run": definition(importlib.import_module(name).run)})

    return checked


TOP = """
import asyncio
import contextlib
import os
import random
import time
import uuid
from datetime import datetime as d
import concurrent.futures
import subprocess as sp
from random import choice
from orchestrator import workflow
KNOWN = {}
COUNT = 0

async def other():
    pass

async def run():
"""


def body(text: str) -> str:
    """Return a module whose workflow has this body; its first line is line 20."""
    return TOP + textwrap.indent(textwrap.dedent(text).strip("\n"), "    ") + "\n"


WRONG = [
    ("ORC101", "time.time()"),
    ("ORC101", "d.now()"),
    ("ORC101", "import datetime as dt\ndt.datetime.utcnow()"),
    ("ORC101", "from datetime import date\ndate.today()"),
    ("ORC101", "time.localtime()"),
    ("ORC101", "time.perf_counter()"),
    ("ORC102", "random.random()"),
    ("ORC102", "choice([1])"),
    ("ORC102", "uuid.uuid4()"),
    ("ORC102", "os.urandom(8)"),
    ("ORC102", "random.Random()"),
    ("ORC102", "import secrets\nsecrets.token_hex()"),
    ("ORC102", "import numpy as np\nnp.random.rand()"),
    ("ORC102", "import numpy as np\nnp.random.default_rng()"),
    ("ORC103", "open('x')"),
    ("ORC103", "input()"),
    ("ORC103", "sp.run(['ls'])"),
    ("ORC103", "import requests\nrequests.get('http://x')"),
    ("ORC103", "import socket\nsocket.socket()"),
    ("ORC103", "from pathlib import Path\nPath('x').read_text()"),
    ("ORC103", "os.getenv('HOME')"),
    ("ORC104", "time.sleep(1)"),
    ("ORC104", "await asyncio.to_thread(print)"),
    ("ORC104", "asyncio.get_running_loop().run_in_executor(None, print)"),
    ("ORC104", "concurrent.futures.ThreadPoolExecutor()"),
    ("ORC104", "import threading\nthreading.Thread(target=print).start()"),
    ("ORC105", "for x in {1, 2}:\n    pass"),
    ("ORC105", "names = set('ab')\nfor x in names:\n    pass"),
    ("ORC105", "[x for x in frozenset('ab')]"),
    ("ORC105", "list({1, 2} | {3})"),
    ("ORC105", "names = {'a'}\nnames.pop()"),
    ("ORC105", "','.join({'a', 'b'})"),
    ("ORC105", "await asyncio.gather(*{other()})"),
    ("ORC105", "await asyncio.wait({asyncio.create_task(other())})"),
    ("ORC105", "for x in KNOWN.keys() - {'a'}:\n    pass"),
    ("ORC106", "global COUNT\nCOUNT += 1"),
    ("ORC106", "KNOWN['a'] = 1"),
    ("ORC106", "KNOWN.update(a=1)"),
    ("ORC106", "del KNOWN['a']"),
    ("ORC107", "try:\n    await other()\nexcept BaseException:\n    pass"),
    ("ORC107", "try:\n    await other()\nexcept:\n    pass"),
    ("ORC107", "try:\n    await other()\nexcept (ValueError, asyncio.CancelledError):\n    pass"),
    ("ORC107", "with contextlib.suppress(asyncio.CancelledError):\n    await other()"),
    ("ORC108", "workflow.step('charge')"),
    ("ORC108", "other()"),
    ("ORC108", "asyncio.sleep(1)"),
    ("ORC108", "async with workflow.saga() as saga:\n    saga.step('charge')"),
    ("ORC109", "seen = []\n@workflow.on_query('q')\ndef q():\n    seen.append(1)"),
    ("ORC109", "seen = {}\n@workflow.on_query('q')\ndef q():\n    seen['a'] = 1"),
    ("ORC109", "n = 0\n@workflow.on_query('q')\ndef q():\n    nonlocal n\n    n += 1"),
]
FINE = [
    "workflow.time(); workflow.now(); workflow.random().random(); workflow.uuid4()",
    "d.fromtimestamp(0); time.localtime(0); random.Random(7); uuid.UUID(int=1)",
    "import numpy as np\nnp.random.default_rng(7)",
    "await workflow.step(time.time)",
    "random = workflow.random()\nreturn random.random()",
    "open = workflow.signals('open')\nasync for each in open:\n    break",
    "for x in sorted({1, 2}):\n    pass",
    "total = sum(x for x in {1, 2})",
    "names = {'a'}\nif 'a' in names:\n    return len(names)",
    "copy = {x for x in {1, 2}}",
    "names = {'a'}\nnames = sorted(names)\nfor x in names:\n    pass",
    "await asyncio.wait([asyncio.create_task(other())])",
    "KNOWN = {}\nKNOWN['a'] = 1",
    "mine = []\nmine.append(1)\nreturn KNOWN.get('a')",
    "try:\n    await other()\nexcept BaseException:\n    print('x')\n    raise",
    "try:\n    await other()\nexcept Exception:\n    pass",
    "try:\n    await other()\nexcept asyncio.CancelledError:\n    raise\nexcept:\n    pass",
    "try:\n    int('x')\nexcept BaseException:\n    pass",
    "with contextlib.suppress(TimeoutError):\n    await other()",
    "task = asyncio.create_task(other())\nawait task",
    "await workflow.step('charge')\nwork = workflow.step('charge')\nawait work",
    "@workflow.on_query('q')\ndef q():\n    found = []\n    found.append(1)\n    return found",
    "print('a line is no fact: it is printed again on each replay')",
]


@pytest.mark.parametrize(("code", "text"), WRONG, ids=[text for _, text in WRONG])
def test_what_cannot_be_replayed_is_found(checked: Check, code: str, text: str) -> None:
    found = checked(body(text))
    assert [finding.code for finding in found] == [code], found
    assert found[0].workflow == "run"
    assert found[0].line >= 20
    assert found[0].what
    assert found[0].instead


@pytest.mark.parametrize("text", FINE)
def test_what_can_be_replayed_is_left_alone(checked: Check, text: str) -> None:
    assert checked(body(text)) == []


def test_every_code_is_shown_above() -> None:
    assert {code for code, _ in WRONG} | {"ORC100"} == set(CODES)


def test_a_finding_is_one_line_with_its_place_its_reason_and_what_to_write(checked: Check) -> None:
    (finding,) = checked(body("x = 1 + time.time()"))
    place, _, rest = str(finding).partition(" ")
    assert place.startswith("checked")
    assert place.endswith(".py:20:13:")
    assert rest == (
        "ORC101 time.time(): replay would read another time; use workflow.now() or workflow.time()"
    )


def test_functions_are_followed_across_modules_classes_and_new_names(checked: Check) -> None:
    found = checked(
        """
        from other import nothing
        """.replace("from other import nothing", "import helpersNUMBER as helpers")
        + """
        from helpersNUMBER import Course, again
        async def run():
            await first()
            helpers.third()
            Course().go()
            list(map(again, [1]))
        async def first():
            second()
        def second():
            open("second")
        def unused():
            open("unused")
        """,
        helpers="""
        import time
        def third():
            time.time()
        def again(x):
            time.monotonic()
        def unused():
            time.time()
        class Course:
            def go(self):
                time.perf_counter()
        """,
    )
    assert sorted(finding.what for finding in found) == [
        *("open()", "time.monotonic()", "time.perf_counter()", "time.time()"),
    ]


def test_steps_are_not_followed_and_a_task_that_is_called_outright_is(checked: Check) -> None:
    text = """
    import time
    from orchestrator import workflow
    def task(function):
        return function
    def plain():
        time.time()
    @task
    def charge():
        time.monotonic()
    async def run():
        call = workflow.step.options(local=True)
        await call(charge)
        await workflow.step(plain, undo=charge)
    """
    assert checked(text) == []
    (finding,) = checked(text + "    charge()\n")
    assert finding.what == "time.monotonic()"


def test_recursion_ends(checked: Check) -> None:
    text = "async def run():\n    await again()\nasync def again():\n    await run()\n"
    assert checked(text) == []


def test_a_comment_silences_its_code_on_its_line_for_a_reason(checked: Check) -> None:
    assert checked(body("time.time()  # orc: ignore[ORC101] shown to nobody")) == []
    assert checked(body("open(str(time.time()))  # orc: ignore[ORC101, ORC103] why not")) == []
    (left,) = checked(body("time.time()  # orc: ignore[ORC103] another one"))
    assert left.code == "ORC101"


@pytest.mark.parametrize(
    ("comment", "says"),
    [
        ("# orc: ignore[ORC101]", "without a reason"),
        ("# orc: ignore[ORC999] because", "ORC999, which is no code"),
        ("# orc: ignore[] because", "nothing, which is no code"),
    ],
)
def test_a_comment_that_says_too_little_silences_nothing(
    checked: Check, comment: str, says: str
) -> None:
    found = checked(body(f"time.time()  {comment}"))
    assert sorted(finding.code for finding in found) == ["ORC100", "ORC101"]
    assert any(says in finding.what for finding in found)


def test_the_applications_and_the_zoo_are_clean_but_for_what_they_mean() -> None:
    # Other tests of this process may have given the app workflows of their own.
    own = {
        name: definition
        for name, definition in sagas.orc.registry.items()
        if definition.function.__module__.startswith("sagas.")
    }
    assert own
    assert check(own) == []
    # It cancels a child of its own and awaits that.
    assert [finding.code for finding in check(zoo.orc.registry)] == ["ORC107"]


def test_paths_narrow_what_is_reported(tmp_path: Path) -> None:
    assert check(zoo.orc.registry, ["sagas"]) == []
    assert len(check(zoo.orc.registry, [Path(zoo.__file__)])) == 1
    with pytest.raises(ConfigurationError, match="a file or folder is wanted"):
        check(zoo.orc.registry, [tmp_path / "nowhere"])


def test_a_workflow_without_source_is_refused_with_a_sentence() -> None:
    names: dict[str, object] = {}
    exec("async def run(): pass", names)
    with pytest.raises(ConfigurationError, match="no source that can be read"):
        check({"run": definition(names["run"])})  # type: ignore[arg-type]


def test_versions_beside_the_default_one_are_looked_at_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    name = f"checked{next(_numbers)}"
    text = """
        import time

        async def before():
            return time.time()

        async def run():
            return 1
    """
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
    importlib.invalidate_caches()
    module = importlib.import_module(name)
    old = definition(module.before, "run", version="1")
    found = check({"run": replace(definition(module.run, "run", version="2"), others=(old,))})
    assert [(one.code, one.workflow) for one in found] == [("ORC101", "run")]


def test_what_a_side_effect_does_is_its_own_business(checked: Check) -> None:
    found = checked(
        """
        import time
        from orchestrator import workflow

        def look():
            return open("/etc/hostname").read()

        async def run():
            workflow.side_effect(look)
            workflow.side_effect(lambda: time.time())
            return time.time()
        """
    )
    assert [(one.code, one.line) for one in found] == [("ORC101", 11)]
