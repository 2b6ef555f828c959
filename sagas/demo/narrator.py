"""What the tour says: headings, one line per fact, and which claims did not hold.

Plain text where the output is no terminal, or the terminal has no such signs.
"""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console, RenderableType
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
        #: Whether the terminal has signs beyond ASCII.
        self.has_signs = (console.encoding or "").lower().startswith("utf")
        self._yes, self._no, self._dot = ("✓", "✗", "·") if self.has_signs else ("ok", "NO", "-")
        self._indent = len(self._yes) + 2

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

    def command(self, text: str) -> None:
        """Show a command for a terminal, in one piece for copying."""
        self._console.print(Text(f"   $ {text}", style="cyan"), soft_wrap=True)

    def _line(self, mark: str, text: str, mark_style: str, style: str) -> None:
        lines = [
            line
            for part in text.splitlines()
            for line in textwrap.wrap(
                part, self._console.width - self._indent, break_on_hyphens=False
            )
        ]
        for number, line in enumerate(lines):
            head = f" {'' if number else mark} ".ljust(self._indent)
            said = Text.assemble((head, mark_style), (line, style))
            self._console.print(said, soft_wrap=True)
