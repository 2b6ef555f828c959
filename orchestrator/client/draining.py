"""Which open runs still need which version and which branch of a patch: what may be deleted.

All of it is read from the histories of open runs, one page at a time; no code is run.

DR1 A version is needed by the open runs that it carries on (`core.versions`).  It may be removed
    once there are none, it is not the default one, and no run of the type waits for its start,
    which may have named it.
DR2 The old branch of a patch may be needed by an open run of the type that has no marker of it: it
    may have passed the place before the patch was there.  It is needed by a run whose marker is
    late: it has passed another place of the patch on the old branch.  The branch may be deleted,
    and `patched` become `deprecate_patch`, once there are neither.  A run that has not begun needs
    only what it will find.  A place that was given an old patch's name later is not seen: a new
    change needs a new name.
DR3 A marker that is not deprecated needs the call, `patched` or `deprecate_patch`.  The call may be
    removed once no open run has one.
DR4 Patches are counted by type.  One that no open run has a marker of is not seen here, unless it
    is asked for: then every open run may need its old branch.
DR5 A history that cannot be read could need anything: of its type nothing may be removed.

Ended runs are not looked at, but a query replays them: it is refused once their code is gone.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from orchestrator.client.exporting import stored_events
from orchestrator.client.listing import filter_of, iterate
from orchestrator.client.session import Session
from orchestrator.client.summary import RunSummary, history_event_of
from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.errors import OrchestratorError
from orchestrator.core.events import PatchMarked, RunStarted
from orchestrator.core.schedule import SCHEDULE_TYPE
from orchestrator.core.values import Json
from orchestrator.core.versions import to_carry_on, versions_of


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionUse:
    """A version of a workflow: `started` open runs began under it, it carries on `runs` (DR1)."""

    workflow: str
    version: str
    is_here: bool
    is_default: bool
    started: int
    runs: int
    may_be_removed: bool

    def as_json(self) -> dict[str, Json]:
        """Return it for programs."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchUse:
    """A patch in open runs of a workflow (DR2, DR3).

    `marked` have a marker, of which `deprecated` by `deprecate_patch` alone, and `late` have passed
    an earlier place on the old branch; `unmarked` have none.
    """

    workflow: str
    patch: str
    marked: int
    deprecated: int
    late: int
    unmarked: int
    may_delete_old_branch: bool
    may_remove_call: bool

    def as_json(self) -> dict[str, Json]:
        """Return it for programs."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """What open runs need, by name.

    `waiting` counts the runs of a type that have not begun; `failed` says why a history could not
    be read, by the run's id.
    """

    versions: list[VersionUse]
    patches: list[PatchUse]
    waiting: dict[str, int]
    failed: dict[str, str]

    def as_json(self) -> dict[str, Json]:
        """Return it for programs."""
        return {
            "versions": [each.as_json() for each in self.versions],
            "patches": [each.as_json() for each in self.patches],
            "waiting": dict(self.waiting),
            "failed": dict(self.failed),
        }


@dataclass(slots=True)
class _Type:
    """What was counted of one workflow."""

    runs: int = 0
    waiting: int = 0
    unread: int = 0
    started: Counter[str] = field(default_factory=Counter)
    carried: Counter[str] = field(default_factory=Counter)
    marked: Counter[str] = field(default_factory=Counter)
    deprecated: Counter[str] = field(default_factory=Counter)
    late: Counter[str] = field(default_factory=Counter)


async def drain(session: Session, type: str | None = None, patches: Iterable[str] = ()) -> Drain:
    """Return what the open runs need, of one workflow or of all; `patches` are asked for (DR4).

    Raises:
        StoreUnavailable: No answer.
    """
    found: dict[str, _Type] = {
        name: _Type() for name in session.registry if type is None or name == type
    }
    failed: dict[str, str] = {}
    async for run in iterate(session, filter_of("", {"closed": False, "type": type})):
        if run.type == SCHEDULE_TYPE:
            continue  # Ours; its code is in every orchestrator.
        counted = found.setdefault(run.type, _Type())
        if not run.seq:
            counted.waiting += 1
            continue
        try:
            await _count(session, run, counted)
        except (OrchestratorError, ValueError) as error:
            counted.unread += 1
            failed[run.workflow_id] = str(error)
    return Drain(
        versions=[
            use for name in sorted(found) for use in _versions(name, found[name], session.registry)
        ],
        patches=[use for name in sorted(found) for use in _patches(name, found[name], [*patches])],
        waiting={name: each.waiting for name, each in sorted(found.items()) if each.waiting},
        failed=failed,
    )


async def _count(session: Session, run: RunSummary, counted: _Type) -> None:
    """Read a history and count what its run needs; nothing of one that cannot be read."""
    started: RunStarted | None = None
    markers: dict[str, PatchMarked] = {}
    async for stored in stored_events(session, run):
        event = history_event_of(stored).event
        if isinstance(event, PatchMarked):
            markers.setdefault(event.patch, event)
        elif isinstance(event, RunStarted):
            started = event
    assert started is not None
    code = to_carry_on(session.registry, started)
    counted.runs += 1
    counted.started[started.version] += 1
    counted.carried[started.version if code is None else code.version] += 1
    for patch, marker in markers.items():
        counted.marked[patch] += 1
        counted.deprecated[patch] += marker.deprecated
        counted.late[patch] += marker.is_late


def _versions(
    name: str, counted: _Type, registry: Mapping[str, WorkflowDefinition]
) -> list[VersionUse]:
    default = registry.get(name)
    here = [] if default is None else [each.version for each in versions_of(default)]
    return [
        VersionUse(
            workflow=name,
            version=version,
            is_here=version in here,
            is_default=default is not None and version == default.version,
            started=counted.started[version],
            runs=counted.carried[version],
            may_be_removed=not (
                counted.carried[version]
                or counted.unread
                or counted.waiting
                or (default is not None and version == default.version)
            ),
        )
        for version in sorted({*here, *counted.started})
    ]


def _patches(name: str, counted: _Type, asked: list[str]) -> list[PatchUse]:
    found = []
    for patch in sorted({*asked, *counted.marked}):
        marked, deprecated, late = (
            each[patch] for each in (counted.marked, counted.deprecated, counted.late)
        )
        unmarked = counted.runs - marked
        found.append(
            PatchUse(
                workflow=name,
                patch=patch,
                marked=marked,
                deprecated=deprecated,
                late=late,
                unmarked=unmarked,
                may_delete_old_branch=not (unmarked or late or counted.unread),
                may_remove_call=marked == deprecated and not counted.unread,
            )
        )
    return found
