"""What the check finds, and the numbers it goes by.  A number never changes its meaning."""

from dataclasses import asdict, dataclass
from pathlib import Path

from orchestrator.core.values import Json

#: By code: what it is about, and why it matters.
CODES: dict[str, tuple[str, str]] = {
    "ORC100": ("comment", "a finding is silenced for a reason, which the next reader needs"),
    "ORC101": ("clock", "replay would read another time"),
    "ORC102": ("chance", "replay would draw other numbers"),
    "ORC103": ("outside world", "replay would do it again, or find another answer"),
    "ORC104": (
        "threads",
        "what another thread does is not recorded, and an activation must not wait",
    ),
    "ORC105": ("order of a set", "it differs between two processes"),
    "ORC106": ("shared state", "runs and replays in one process would see each other"),
    "ORC107": ("swallowed cancellation", "the run could not be cancelled"),
    "ORC108": ("not awaited", "it is never ordered, or its failure is never seen"),
    "ORC109": (
        "query that writes",
        "a query is no part of the history: replay would not repeat it",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    """One place in workflow code.  `line` counts from 1, `column` too.

    Args:
        path: The file.
        line: In it.
        column: In the line.
        code: A key of ``CODES``.
        what: What was found there.
        instead: What to write.
        workflow: Through which workflow it is reached; the first by name.
    """

    path: Path
    line: int
    column: int
    code: str
    what: str
    instead: str
    workflow: str = ""

    @property
    def why(self) -> str:
        """Why it matters."""
        return CODES[self.code][1]

    def __str__(self) -> str:
        return (
            f"{self.path}:{self.line}:{self.column}: {self.code} {self.what}: {self.why}; "
            f"{self.instead}"
        )

    def as_json(self) -> dict[str, Json]:
        """Return it as a JSON object."""
        return {**asdict(self), "path": str(self.path), "why": self.why}
