"""Which checkpoints to keep: what is asked for, and what a run needs whatever is asked for.

RT1  Policies are joined by "any": a checkpoint is kept if one of them wants it.  None can make a
     plan delete what safety keeps.
RT2  Safety keeps the newest two of every branch that were verified, the points where branches part,
     whatever is referenced (by a task that runs, as a stage's output, by an order), and whatever is
     younger than an hour.  A branch without two verified checkpoints keeps all it has.
RT3  A plan is made of facts that are given to it, and says of everything it keeps, why.
RT4  Runs may share a storage.  What another run saved there is never deleted; a checkpoint from
     which it goes on is a point where branches part.

The policies are those of Orbax (preservation policies), which serve people well.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from orchestrator.core.values import Json
from orchestrator.training.errors import UnsafePlan

_HOUR_MS = 3_600_000
#: Somebody may be about to refer to it.
YOUNG_MS = _HOUR_MS
#: Bytes that no manifest names may be those of one that is about to be written.
FORGOTTEN_AFTER_MS = 24 * _HOUR_MS
#: Who meets older bytes and relies on them makes them young, see `checkpoints`.
REFRESH_AFTER_MS = 12 * _HOUR_MS
#: A save takes less than this.
assert FORGOTTEN_AFTER_MS - REFRESH_AFTER_MS >= 2 * YOUNG_MS
VERIFIED_KEPT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What there is to know of one checkpoint when it is decided whether it stays."""

    manifest_sha256: str
    key: str
    branch: str
    step: int
    parent: str | None
    modified_at_ms: int
    metrics: Mapping[str, Json] = field(default_factory=dict)


class Policy(Protocol):
    """Wants some of the checkpoints of a run kept."""

    def wanted(self, checkpoints: Sequence[Candidate]) -> Iterator[tuple[str, str]]:
        """Yield the digest of what to keep, and why."""


@dataclass(frozen=True, slots=True)
class LatestN:
    """The last `n` of every branch."""

    n: int = 3

    def __post_init__(self) -> None:
        """Refuse to keep none."""
        _at_least_one("LatestN", self.n)

    def wanted(self, checkpoints: Sequence[Candidate]) -> Iterator[tuple[str, str]]:
        """See `Policy.wanted`."""
        for branch in _newest_first(checkpoints).values():
            for index, one in enumerate(branch[: self.n]):
                yield one.manifest_sha256, f"number {index + 1} of the latest {self.n}"


@dataclass(frozen=True, slots=True)
class BestN:
    """The best `n` of the run by a metric; those without it, or with NaN, are not among them."""

    metric: str
    n: int = 1
    better: Literal["lower", "higher"] = "lower"

    def __post_init__(self) -> None:
        """Refuse to keep none."""
        _at_least_one("BestN", self.n)

    def wanted(self, checkpoints: Sequence[Candidate]) -> Iterator[tuple[str, str]]:
        """See `Policy.wanted`.  Of equals, the earlier step is better."""
        sign = 1 if self.better == "lower" else -1
        ranked = sorted(
            (sign * value, one.step, one.manifest_sha256)
            for one in checkpoints
            if (value := _number(one.metrics.get(self.metric))) is not None
        )
        for index, (_, _, found) in enumerate(ranked[: self.n]):
            yield found, f"number {index + 1} of the best {self.n} by {self.metric}"


@dataclass(frozen=True, slots=True)
class EveryK:
    """Those at steps that `steps` divides."""

    steps: int

    def __post_init__(self) -> None:
        """Refuse what divides nothing."""
        _at_least_one("EveryK", self.steps)

    def wanted(self, checkpoints: Sequence[Candidate]) -> Iterator[tuple[str, str]]:
        """See `Policy.wanted`."""
        for one in checkpoints:
            if one.step % self.steps == 0:
                yield one.manifest_sha256, f"every {self.steps} steps"


@dataclass(frozen=True, slots=True)
class Pinned:
    """Those named, by the digest of their manifest."""

    digests: frozenset[str]

    def wanted(self, checkpoints: Sequence[Candidate]) -> Iterator[tuple[str, str]]:
        """See `Policy.wanted`."""
        for one in checkpoints:
            if one.manifest_sha256 in self.digests:
                yield one.manifest_sha256, "pinned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What stays, with all reasons, and what goes, oldest first; nothing of other runs (RT4)."""

    keep: Mapping[str, tuple[str, ...]]
    delete: tuple[Candidate, ...]


def plan(
    checkpoints: Sequence[Candidate],
    policies: Sequence[Policy],
    *,
    verified: Collection[str],
    referenced: Mapping[str, str],
    now_ms: int,
    others: Sequence[Candidate] = (),
) -> Plan:
    """Return what to keep and what to delete; nothing is touched.

    Args:
        checkpoints: All of the run.
        policies: What is asked for; at least one.
        verified: Digests of those known to be whole (`collecting.newest_verified`).
        referenced: Digests that something needs, and what it is.
        now_ms: The store's time.
        others: Those of other runs in the same storage (RT4).

    Raises:
        UnsafePlan: No policy is given.
    """
    if not policies:
        raise UnsafePlan("a retention plan", "no policy", "say what to keep, for one LatestN(3)")
    keep: dict[str, list[str]] = defaultdict(list)
    for found, why in _wanted(checkpoints, policies, verified, referenced, now_ms):
        keep[found].append(why)
    begun = {one.parent: one.branch for one in others}
    for one in checkpoints:
        if one.manifest_sha256 in begun:
            keep[one.manifest_sha256].append(f"branch {begun[one.manifest_sha256]} begins there")
    delete = [one for one in checkpoints if one.manifest_sha256 not in keep]
    return Plan(
        keep={found: tuple(reasons) for found, reasons in keep.items()},
        delete=tuple(sorted(delete, key=lambda one: (one.step, one.branch))),
    )


def _wanted(
    checkpoints: Sequence[Candidate],
    policies: Sequence[Policy],
    verified: Collection[str],
    referenced: Mapping[str, str],
    now_ms: int,
) -> Iterator[tuple[str, str]]:
    for policy in policies:
        yield from policy.wanted(checkpoints)
    branch_of = {one.manifest_sha256: one.branch for one in checkpoints}
    for one in checkpoints:
        if one.manifest_sha256 in referenced:
            yield one.manifest_sha256, referenced[one.manifest_sha256]
        if now_ms - one.modified_at_ms < YOUNG_MS:
            yield one.manifest_sha256, "younger than an hour"
        if one.parent is not None and branch_of.get(one.parent, one.branch) != one.branch:
            yield one.parent, f"branch {one.branch} begins there"
    for branch in _newest_first(checkpoints).values():
        good = [one for one in branch if one.manifest_sha256 in verified][:VERIFIED_KEPT]
        for one in good:
            yield one.manifest_sha256, "newest verified of its branch"
        for one in branch if len(good) < VERIFIED_KEPT else ():
            yield one.manifest_sha256, f"its branch has {len(good)} verified"


def _newest_first(checkpoints: Sequence[Candidate]) -> dict[str, list[Candidate]]:
    branches: dict[str, list[Candidate]] = defaultdict(list)
    for one in sorted(checkpoints, key=lambda c: (c.step, c.modified_at_ms), reverse=True):
        branches[one.branch].append(one)
    return branches


def _number(value: Json) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return None if value != value else float(value)


def _at_least_one(policy: str, n: int) -> None:
    if n < 1:
        raise UnsafePlan(policy, str(n), "at least 1: a run without checkpoints starts anew")
