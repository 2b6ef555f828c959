"""Text that others wrote, as a terminal may have it.

W1  What is printed moves no cursor, sets no title, fills no clipboard and turns no line around:
    controls, invisible format characters and unpaired surrogates are escaped, as Python writes
    them.  In JSON they are escaped as JSON does, so that a program reads what was there.
"""

import json
import unicodedata

from rich.text import Text

from orchestrator.core.values import Json

#: Controls, invisible format characters and unpaired surrogates; a part of what ids refuse.
_ESCAPED_CATEGORIES = frozenset({"Cc", "Cf", "Cs"})


def shown(text: str) -> str:
    """Return `text` for one line (W1): its line ends are escaped, too."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        each.encode("unicode_escape").decode() if _is_escaped(each) else each for each in text
    )


def shown_page(text: str) -> str:
    """Return `text` of several lines (W1); a tab becomes blanks."""
    return "\n".join(shown(line.rstrip("\r")) for line in text.expandtabs(4).split("\n"))


def cell(text: str, style: str = "") -> Text:
    """Return `text` for a table, where markup in it means nothing; lines stay lines."""
    return Text(shown_page(text), style=style)


def json_line(value: Json) -> str:
    """Return `value` as JSON in one line (W1)."""
    return _escaped_in_json(json.dumps(value, ensure_ascii=False))


def json_page(value: Json) -> str:
    """Return `value` as JSON, indented (W1)."""
    return _escaped_in_json(json.dumps(value, ensure_ascii=False, indent=2))


def _escaped_in_json(text: str) -> str:
    # A line end of the document is no part of a value: those JSON has escaped already.
    return "".join(
        json.dumps(each)[1:-1] if each != "\n" and _is_escaped(each) else each for each in text
    )


def _is_escaped(character: str) -> bool:
    return unicodedata.category(character) in _ESCAPED_CATEGORIES
