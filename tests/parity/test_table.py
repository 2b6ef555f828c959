"""The table of what Temporal's users look up here: what it names is there."""

import re
from pathlib import Path

HERE = Path(__file__).parent
TABLE = (HERE / "README.md").read_text()
NAMED = re.compile(r"`((?:tests/\w+/)?test_\w+\.py)(?:::(test_\w+))?`")


def test_every_test_that_the_table_names_exists() -> None:
    named = NAMED.findall(TABLE)
    assert len(named) > 60
    for file, test in named:
        path = HERE.parents[1] / file if "/" in file else HERE / file
        assert path.is_file(), file
        assert not test or f"def {test}(" in path.read_text(), f"{file}::{test}"


def test_every_row_says_something_and_stands_once() -> None:
    rows = [line.split(" | ") for line in TABLE.splitlines() if line.startswith("| ")][2:]
    names = [row[0] for row in rows]
    assert len(names) == len(set(names)) > 70
    assert all(len(row) == 2 and len(row[1]) > 10 for row in rows)
