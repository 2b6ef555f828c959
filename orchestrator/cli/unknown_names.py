"""Why a listing may be empty: names in its filter that no run has."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches

import click

from orchestrator.app import Orchestrator
from orchestrator.cli.shown import shown
from orchestrator.client.filter_text import parse_filter
from orchestrator.client.filters import Comparison, Filter
from orchestrator.core.search_attributes import SYSTEM_NAMES, index_of_name, index_of_type


def warn_of_unknown(orchestrator: Orchestrator, filter_: str, type_: str | None) -> None:
    """Say on standard error which names of an empty listing no run has, and which were meant."""
    types = [type_] if type_ else []
    names = sorted(set(_names_in(parse_filter(filter_))) - set(SYSTEM_NAMES))
    indexes = [*map(index_of_type, types), *map(index_of_name, names)]
    if not indexes:
        return
    sizes = dict(zip(indexes, orchestrator.store.index_sizes(indexes), strict=True))
    for each in types:
        if not sizes[index_of_type(each)]:
            _warn(f"no run has the type {each!r}", sorted(orchestrator.registry), each)
    for name in names:
        if not sizes[index_of_name(name)]:
            _warn(f"no run has a search attribute {name!r}", SYSTEM_NAMES, name)


def _names_in(wanted: Filter) -> Iterator[str]:
    if isinstance(wanted, Comparison):
        # Whoever asks for the runs without an attribute expects that none may have it.
        if wanted.operator != "IS NULL":
            yield wanted.name
        return
    for part in wanted.parts:
        yield from _names_in(part)


def _warn(text: str, known: Sequence[str], name: str) -> None:
    meant = [each for each in known if name.lower() in each.lower()]
    meant = meant or get_close_matches(name, known, n=1)
    more = f"; is {' or '.join(meant)} meant?" if meant else ""
    click.echo(shown(f"warning: {text}{more}"), err=True)
