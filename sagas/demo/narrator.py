"""What the tour says: headings, one line per fact, and which claims did not hold.

Plain text where the output is no terminal, or the terminal has no such signs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

#: Wider lines are hard to read; a table of history fits.
WIDTH_MAX = 100


@dataclass(frozen=True, slots=True)
class Evidence:
    """A claim, and what was found when it was checked.

    Args:
        claim: In words, as if it held.
        expected: What has to be found.
        found: What was.
    """

    claim: str
    expected: object
    found: object

    @property
    def holds(self) -> bool:
        """Whether the claim is true."""
        return self.expected == self.found


class Narrator:
    """Prints the tour, and remembers what it claimed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.checked: list[Evidence] = []
        utf8 = (console.encoding or "").lower().startswith("utf")
        self._yes, self._no, self._dot = ("✓", "✗", "·") if utf8 else ("ok", "NO", "-")

    @property
    def failed(self) -> Sequence[Evidence]:
        """The claims that did not hold."""
        return [evidence for evidence in self.checked if not evidence.holds]

    def heading(self, text: str) -> None:
        """Begin a part of the tour."""
        self._console.print()
        self._console.print(Text(text, style="bold"))

    def tell(self, text: str) -> None:
        """Say what happens."""
        self._line(self._dot, text, "dim", "")

    def check(self, evidence: Evidence) -> None:
        """Say whether a claim holds, and what was found where it does not."""
        self.checked.append(evidence)
        if evidence.holds:
            self._line(self._yes, evidence.claim, "green", "")
            return
        self._line(self._no, evidence.claim, "bold red", "bold red")
        self._line("", f"expected {evidence.expected}, found {evidence.found}", "", "red")

    def check_by(self, claim: Callable[..., Evidence], *subject: object) -> None:
        """Check a claim by the function that gathers its evidence."""
        self.check(claim(*subject))

    def show(self, what: RenderableType) -> None:
        """Print something of its own form."""
        self._console.print(what)

    def _line(self, mark: str, text: str, mark_style: str, style: str) -> None:
        line = Table.grid(padding=(0, 1, 0, 0))
        line.add_column(min_width=2, no_wrap=True)
        line.add_column(overflow="fold")
        line.add_row(Text(f" {mark}", style=mark_style), Text(text, style=style))
        self._console.print(line)
