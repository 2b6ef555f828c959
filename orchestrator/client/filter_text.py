"""A filter as one line of text, in the spirit of Temporal's list filters.

    WorkflowType = 'order' AND ExecutionStatus = 'running' AND (customer = 'ana' OR total > 100)

    filter      := and-part { OR and-part }
    and-part    := term { AND term }
    term        := "(" filter ")" | EXISTS name | comparison
    comparison  := name ( = | != | < | <= | > | >= ) value
                 | name [NOT] IN "(" value { "," value } ")"
                 | name [NOT] BETWEEN value AND value
                 | name [NOT] STARTS_WITH text
                 | name IS [NOT] NULL
    value       := text | number | TRUE | FALSE
    text        := "'" … "'" or '"' … '"'; the quote itself is doubled

Words are in any case; names are not.  An instant is a text in ISO 8601.
"""

import math
import re
from dataclasses import dataclass

from orchestrator.client.filters import EVERY_RUN, All, Any_, Comparison, Filter, instant_in
from orchestrator.core.errors import InvalidFilter
from orchestrator.core.limits import FILTER_CHARS_MAX, FILTER_TERMS_MAX
from orchestrator.core.search_attributes import KEYWORDS, SYSTEM_NAMES, Scalar
from orchestrator.store.rows import STATUSES

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
    | (?P<number>[+-]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?(?![A-Za-z0-9_.]))
    | (?P<name>[A-Za-z_][A-Za-z0-9_.-]*)
    | (?P<sign><=|>=|!=|<>|==|=|<|>|\(|\)|,)
    )""",
    re.VERBOSE,
)
_NUMBER_CHARS_MAX = 40
_SIGNS = {"==": "=", "<>": "!="}
_COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
_INSTANTS = ("StartTime", "CloseTime")
_NUMBERS = ("Run", "HistoryLength")


@dataclass(frozen=True, slots=True)
class _Token:
    """`kind` is text, number, name, word, sign or end; `at` counts characters from 1."""

    kind: str
    text: str
    at: int

    @property
    def shown(self) -> str:
        return "the end" if self.kind == "end" else repr(self.text)


def parse_filter(text: str) -> Filter:
    """Return the filter that `text` says; "" takes every run.

    Raises:
        InvalidFilter: It is none; names the place, what was found there and what was wanted.
    """
    if len(text) > FILTER_CHARS_MAX:
        raise InvalidFilter(text, 1, f"{len(text)} characters, at most {FILTER_CHARS_MAX} fit")
    return _Parser(text).whole()


class _Parser:
    """Reads one filter, left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._split()
        self._next = 0
        self._terms = 0

    def whole(self) -> Filter:
        if self._peek.kind == "end":
            return EVERY_RUN
        found = self._either()
        if self._peek.kind != "end":
            raise self._unexpected("AND, OR or the end")
        return found

    # --- grammar ---------------------------------------------------------------------------------

    def _either(self) -> Filter:
        parts = [self._every()]
        while self._took("OR"):
            parts.append(self._every())
        return parts[0] if len(parts) == 1 else Any_(tuple(parts))

    def _every(self) -> Filter:
        parts = [self._term()]
        while self._took("AND"):
            parts.append(self._term())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _term(self) -> Filter:
        self._terms += 1
        if self._terms > FILTER_TERMS_MAX:
            raise self._error(f"more than {FILTER_TERMS_MAX} terms; ask in several filters")
        if self._took("("):
            found = self._either()
            self._wanted(")", "AND, OR or ')'")
            return found
        if self._took("EXISTS"):
            return Comparison(name=self._name(), operator="IS NULL", is_negated=True)
        return self._comparison(self._name())

    def _comparison(self, name: str) -> Comparison:
        if self._took("IS"):
            is_negated = self._took("NOT")
            self._wanted("NULL", "NULL" if is_negated else "NULL or NOT NULL")
            return Comparison(name=name, operator="IS NULL", is_negated=is_negated)
        token = self._peek
        sign = _SIGNS.get(token.text, token.text)
        if token.kind == "sign" and sign in _COMPARISONS:
            self._next += 1
            return Comparison(name=name, operator=sign, values=(self._value(name),))
        is_negated = self._took("NOT")
        if self._took("IN"):
            values = self._values(name)
            return Comparison(name=name, operator="IN", values=values, is_negated=is_negated)
        if self._took("BETWEEN"):
            first = self._value(name)
            self._wanted("AND", "AND, as in BETWEEN 1 AND 9")
            values = (first, self._value(name))
            return Comparison(name=name, operator="BETWEEN", values=values, is_negated=is_negated)
        if self._took("STARTS_WITH"):
            values = (self._prefix(name),)
            return Comparison(
                name=name, operator="STARTS_WITH", values=values, is_negated=is_negated
            )
        wanted = "IN, BETWEEN or STARTS_WITH"
        raise self._unexpected(wanted if is_negated else f"a comparison such as = or {wanted}")

    def _name(self) -> str:
        token = self._peek
        if token.kind != "name":
            raise self._unexpected("the name of an attribute")
        self._next += 1
        known = {name.lower(): name for name in SYSTEM_NAMES}.get(token.text.lower())
        if known is not None and known != token.text:
            raise InvalidFilter(self._text, token.at, f"found {token.text!r}, do you mean {known}")
        return token.text

    def _values(self, name: str) -> tuple[Scalar, ...]:
        self._wanted("(", "'(', as in IN ('a', 'b')")
        values = [self._value(name)]
        while self._took(","):
            values.append(self._value(name))
        self._wanted(")", "',' or ')'")
        return tuple(values)

    def _prefix(self, name: str) -> str:
        token = self._peek
        if token.kind != "text" or name in (*_INSTANTS, *_NUMBERS):
            raise self._unexpected("a text in quotes" if token.kind != "text" else "=, < or >")
        self._next += 1
        return _unquoted(token.text)

    def _value(self, name: str) -> Scalar:
        token = self._peek
        value: Scalar
        if token.kind == "text":
            value = _unquoted(token.text)
        elif token.kind == "number":
            value = self._number(token)
        elif token.kind == "word" and token.text.upper() in ("TRUE", "FALSE"):
            value = token.text.upper() == "TRUE"
        elif token.kind == "name":
            raise self._unexpected("a value; a text is put in quotes")
        else:
            raise self._unexpected("a value: a text in quotes, a number, true or false")
        self._next += 1
        return _checked(self._text, token, name, value)

    def _number(self, token: _Token) -> int | float:
        if len(token.text) > _NUMBER_CHARS_MAX:
            raise self._error(f"a number of {len(token.text)} characters")
        value = int(token.text) if token.text.lstrip("+-").isdigit() else float(token.text)
        if not math.isfinite(value):
            raise self._error(f"{token.text} is beyond every number")
        return value

    # --- tokens ----------------------------------------------------------------------------------

    def _split(self) -> list[_Token]:
        tokens, at, text = [], 0, self._text
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if found is None:
                place = at + len(text[at:]) - len(text[at:].lstrip())
                raise InvalidFilter(text, place + 1, _why_no_token(text[place]))
            group = str(found.lastgroup)
            word = found[group]
            is_word = group == "name" and word.lower() in KEYWORDS
            tokens.append(_Token("word" if is_word else group, word, found.start(group) + 1))
            at = found.end()
        tokens.append(_Token("end", "", len(text) + 1))
        return tokens

    @property
    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _took(self, wanted: str) -> bool:
        token = self._peek
        if token.kind not in ("word", "sign") or token.text.upper() != wanted:
            return False
        self._next += 1
        return True

    def _wanted(self, wanted: str, words: str) -> None:
        if not self._took(wanted):
            raise self._unexpected(words)

    def _unexpected(self, wanted: str) -> InvalidFilter:
        return self._error(f"found {self._peek.shown}, wanted {wanted}")

    def _error(self, reason: str) -> InvalidFilter:
        return InvalidFilter(self._text, self._peek.at, reason)


def _unquoted(text: str) -> str:
    quote = text[0]
    return text[1:-1].replace(quote * 2, quote)


def _why_no_token(character: str) -> str:
    if character in "'\"":
        return f"the quote {character} is not closed"
    return f"found {character!r}, which no filter has outside quotes"


def _checked(text: str, token: _Token, name: str, value: Scalar) -> Scalar:
    """Return the value as the system name wants it; of attributes, any value will do."""
    if name == "ExecutionStatus":
        status = str(value).lower()
        if status not in STATUSES:
            known = ", ".join(STATUSES)
            raise InvalidFilter(text, token.at, f"no status is {value!r}; there are {known}")
        return status
    if name in _INSTANTS:
        instant = instant_in(value) if isinstance(value, str) else None
        if instant is None:
            wanted = "an instant as a text, such as '2026-11-25T20:00:00Z'"
            raise InvalidFilter(text, token.at, f"found {token.shown}, {name} wants {wanted}")
        return instant
    if name in _NUMBERS and (isinstance(value, bool | str)):
        raise InvalidFilter(text, token.at, f"found {token.shown}, {name} wants a number")
    if name in SYSTEM_NAMES and name not in _NUMBERS and not isinstance(value, str):
        raise InvalidFilter(text, token.at, f"found {token.shown}, {name} wants a text in quotes")
    return value
