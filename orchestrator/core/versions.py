"""Several versions of a workflow in one app: which code a run begins with, and which carries it on.

V1  New runs begin under the default version: the one that says ``default=True``, or else the one
    that was registered last.  Whoever starts a run may name another one.
V2  A run is pinned to the version that its start recorded: later versions beside it change nothing.
V3  A default version that is ``versioning="auto_upgrade"`` takes over the open runs of all others,
    but for those whose start named a version; what it changes, it guards with patches.
V4  A run without a version was never pinned, and a workflow without versions pins nothing: the
    default takes such runs.
V5  A run whose version is not here is blocked, and moves where it is deployed.
"""

from collections.abc import Iterator, Mapping

from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.errors import ActivationFailed
from orchestrator.core.events import RunStarted
from orchestrator.core.values import Json

Registry = Mapping[str, WorkflowDefinition]

PINNED, AUTO_UPGRADE = "pinned", "auto_upgrade"
VERSIONINGS = (PINNED, AUTO_UPGRADE)


def to_start(
    registry: Registry, name: str, version: str | None = None
) -> WorkflowDefinition | None:
    """Return the code that a new run begins with (V1); None where it is not here.

    The next run of a chain, a child and a scheduled run are new runs too; the next attempt of a run
    is the start once more, with the version that it named.
    """
    default = registry.get(name)
    if default is None or version is None:
        return default
    return find_version(default, version)


def named_version(registry: Registry, started: WorkflowDefinition) -> dict[str, Json]:
    """Return what a start's body says of the version: nothing where the default one is started."""
    default = registry.get(started.name)
    if default is None or default.version == started.version:
        return {}
    return {"version": started.version}


def to_carry_on(registry: Registry, started: RunStarted) -> WorkflowDefinition | None:
    """Return the code that carries a run on (V2 to V4); None where it is not here."""
    return of_version(registry, started.workflow, started.version, is_pinned=started.is_pinned)


def of_version(
    registry: Registry, name: str, version: str, *, is_pinned: bool = False
) -> WorkflowDefinition | None:
    """Return the code of runs that recorded `version`; see `to_carry_on`."""
    default = registry.get(name)
    if default is None:
        return None
    found = find_version(default, version)
    if is_pinned:
        return found
    if default.versioning == AUTO_UPGRADE:
        return default
    if found is None and not (version and default.version):
        return default
    return found


def find_version(default: WorkflowDefinition, version: str) -> WorkflowDefinition | None:
    """Return that version of a workflow, `default` itself or one beside it."""
    return next((each for each in versions_of(default) if each.version == version), None)


def versions_of(default: WorkflowDefinition) -> tuple[WorkflowDefinition, ...]:
    """Return all versions of a workflow, the default one first."""
    return (default, *default.others)


def every_version(registry: Registry) -> Iterator[WorkflowDefinition]:
    """Yield all workflows in all their versions, by name, the default one first."""
    for name in sorted(registry):
        yield from versions_of(registry[name])


def why_unknown(registry: Registry, name: str, version: str) -> str:
    """Return what is said of a run whose code is not here, and what to do about it."""
    default = registry.get(name)
    if default is None:
        known = ", ".join(sorted(registry)) or "none"
        return f"no workflow is named {name!r} here; known: {known}; deploy it here"
    versions = ", ".join(sorted(repr(each.version) for each in versions_of(default)))
    return (
        f"workflow {name!r} has no version {version!r} here; known: {versions}; deploy that "
        f"version beside them, or let the default one take its runs over: "
        f"versioning={AUTO_UPGRADE!r}"
    )


def unknown(registry: Registry, started: RunStarted) -> ActivationFailed:
    """Return why a run cannot be activated here (V5)."""
    return ActivationFailed(
        "unknown_workflow", why_unknown(registry, started.workflow, started.version)
    )
