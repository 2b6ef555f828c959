"""What the simulation says when a promise does not hold."""


class Broken(BaseException):
    """A promise is broken: which, about what, and what was expected and found instead.

    No `Exception`: the engine outlives those, and would go on.

    `promise` is P1 to P6, or "engine" where the engine met an exception it cannot explain.
    """

    def __init__(self, promise: str, subject: str, expected: object, found: object) -> None:
        super().__init__(promise, subject, expected, found)
        self.promise = promise
        self.subject = subject
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return (
            f"{self.promise} is broken: {self.subject}\n"
            f"  expected: {self.expected}\n"
            f"  found:    {self.found}"
        )
