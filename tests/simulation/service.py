"""The outside world that steps act upon: what a well-behaved service does with idempotency keys.

SV1  The same key again has no further effect, and gets the same answer.
SV2  What was undone stays undone: an effect that comes after its undo, from a worker that was
     stopped in between, is refused.
SV3  A refusal is final, and means that there was no effect under this key.
"""

from dataclasses import dataclass, field


class Refused(Exception):
    """The service says no, for good."""


@dataclass(slots=True)
class Service:
    """Effects and their undoing, by the idempotency key of the step that had them.

    Attributes:
        done: Effects that happened, also those undone since; the label by key.
        undone: The keys of the steps that undid it, in order, by key.
    """

    done: dict[str, str] = field(default_factory=dict)
    undone: dict[str, list[str]] = field(default_factory=dict)

    def act(self, key: str, label: str, *, is_unwilling: bool) -> None:
        """Have the effect of `key`, unless it is there already.

        Raises:
            Refused: It was undone, or the service does not want to.
        """
        if key in self.undone:
            raise Refused(f"{key} was undone")
        if key not in self.done:
            if is_unwilling:
                raise Refused(f"no {label} today")
            self.done[key] = label

    def undo(self, key: str, by: str) -> None:
        """Undo the effect of `key`, also one that is not there yet (SV2)."""
        undoing = self.undone.setdefault(key, [])
        if by not in undoing:
            undoing.append(by)

    def holds(self, key: str) -> bool:
        """Return whether the effect of `key` is in force."""
        return key in self.done and key not in self.undone
