"""JSON on the command line."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.errors import EXIT_WRONG, Refusal
from orchestrator.core.values import Json

if TYPE_CHECKING:
    _ParamType = click.ParamType[Json]
else:
    _ParamType = click.ParamType  # generic since 8.4 only

#: Characters shown before and after the place where JSON breaks.
_AROUND_CHARS = 20


class JsonValue(_ParamType):
    """A JSON value; ``@file`` reads it from a file, ``-`` from standard input."""

    name = "json"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Json:
        """Return the value, or refuse it with the place where it breaks."""
        text = str(value)
        try:
            if text == "-":
                text = sys.stdin.read()
            elif text.startswith("@"):
                text = Path(text[1:]).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise _refused(f"cannot read {text[1:] or 'standard input'}: {error}", param) from error
        try:
            parsed: Json = json.loads(text, parse_constant=_refuse_constant)
        except json.JSONDecodeError as error:
            raise _refused(f"not JSON: {error.msg} at {_place(error)}", param) from error
        except ValueError as error:
            raise _refused(f"not JSON: {error}", param) from error
        return parsed


def _refused(reason: str, param: click.Parameter | None) -> Refusal:
    where = "" if param is None else f"{param.opts[0]}: "
    return Refusal(f"{where}{reason}", EXIT_WRONG)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _place(error: json.JSONDecodeError) -> str:
    before = error.doc[max(0, error.pos - _AROUND_CHARS) : error.pos]
    after = error.doc[error.pos : error.pos + _AROUND_CHARS]
    shown = " ".join(f"{before} >>> {after}".split())
    line = f"line {error.lineno}, " if "\n" in error.doc.strip() else ""
    return f"{line}column {error.colno}: {shown}"
