"""The numpy generators of one run: from which seed each draws, and where its stream stands.

ST1  After an activation that drew from a stream, `GeneratorDrawn` says where the stream stands.
     Replay compares it: a numpy whose distribution eats more of the stream, or less, is found where
     it did so, also if `generators.probe` sees nothing of it.  Of a stream that stood still, and
     of a run that has none, nothing is recorded.
ST2  It follows the opening of its generator, else it precedes all that the activation ordered:
     replay meets the stream that moved otherwise before the orders that differ because of it.
ST3  Activations alone move streams.  What a query or a validator draws no history has: it is
     refused, and the stream is put back.
ST4  A reseed takes effect in its activation, for generators that the code holds as for those to
     come.  It holds until the run's end: the run that goes on for this one has its own seed.
ST5  Runs that were born without `flags.STREAMS` record nothing here, and know no reseed.

Recorded are the words of 64 bits that were drawn, for people, and a digest of the whole state, for
replay.  The state itself is nine times as long and says hardly more: seed, name and words lead to
it, but for half a word that draws of 32 bits keep.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn, Protocol

from orchestrator.core import generators
from orchestrator.core.events import (
    Command,
    GeneratorDrawn,
    GeneratorOpened,
    SignalReceived,
    SignalRefused,
)
from orchestrator.core.loop import WorkflowLoop
from orchestrator.core.mailbox import Mailbox
from orchestrator.core.own_signals import RESEED, reseed_in

if TYPE_CHECKING:
    from orchestrator.core.generators import Generator, Standing


class Host(Protocol):
    """What streams need of the execution they belong to."""

    loop: WorkflowLoop
    mailbox: Mailbox
    now_ms: int

    @property
    def issued(self) -> int:
        """How many commands the activation has."""
        ...

    def issue(self, command: Command, *, index: int | None = None) -> None:
        """Record a command, before that of the activation which has `index` so far."""
        ...

    def refuse(self, call: str, instead: str) -> NoReturn:
        """See `loop.Host`."""
        ...


class Streams:
    """The generators of one run that were asked for, oldest first."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._is_recorded = False
        self._seed = ""
        #: Seeds that single generators have of their own.
        self._seeds: dict[str, str] = {}
        self._open: dict[str, Generator] = {}
        #: Where each stood when it was last recorded.
        self._recorded: dict[str, Standing] = {}
        #: Of those opened in this activation, how many commands it had then.
        self._opened_at: dict[str, int] = {}

    def begin(self, seed: str, *, is_recorded: bool) -> None:
        """Take the run's seed, and whether its history has the streams (ST5)."""
        self._seed, self._is_recorded = seed, is_recorded
        if is_recorded:
            self._host.mailbox.handle(RESEED, self._reseed)

    def generator(self, name: str) -> "Generator":
        """Return the numpy generator of that name; what numpy draws is recorded with the first.

        Raises:
            UsageError: numpy is not installed.
        """
        known = self._open.get(name)
        if known is None:
            known = generators.generator(self._seeds.get(name, self._seed), name)
            self._host.issue(
                GeneratorOpened(
                    at_ms=self._host.now_ms,
                    name=name,
                    scheme=generators.SCHEME,
                    probe=generators.probe(),
                )
            )
            self._open[name] = known
            self._recorded[name] = generators.standing(known)
            self._opened_at[name] = self._host.issued
        return known

    def record(self) -> None:
        """Record where the streams stand that moved in this activation (ST1, ST2)."""
        if self._is_recorded and self._open:
            # Last opened first: the places of those before it are still right then.
            for name, stands in reversed(self._moved(self._recorded).items()):
                words, digest = generators.position(self._open[name])
                drawn = GeneratorDrawn(
                    at_ms=self._host.now_ms, name=name, words=words, digest=digest
                )
                self._host.issue(drawn, index=self._opened_at.get(name, 0))
                self._recorded[name] = stands
        self._opened_at.clear()

    @contextmanager
    def still(self) -> Iterator[None]:
        """Refuse what draws from a stream here, and put the stream back (ST3).

        Raises:
            ForbiddenInWorkflow: Something was drawn, and nothing else went wrong.
        """
        stood = {name: generators.standing(one) for name, one in self._open.items()}
        states = {name: one.bit_generator.state for name, one in self._open.items()}
        try:
            yield
        finally:
            moved = [*self._moved(stood)]
            for name in moved:
                self._open[name].bit_generator.state = states[name]
        if moved:
            self._host.refuse(
                f"drawing from rng({moved[0]!r}) in a {self._host.loop.read_only}",
                "draw in the workflow, and keep the numbers",
            )

    def _moved(self, since: "dict[str, Standing]") -> "dict[str, Standing]":
        found = {name: generators.standing(one) for name, one in self._open.items()}
        return {name: stands for name, stands in found.items() if stands != since.get(name)}

    def _reseed(self, received: SignalReceived) -> None:
        """Let generators go on from another seed (ST4)."""
        self._host.mailbox.read(received)
        try:
            said = reseed_in(received.payload)
        except ValueError as error:
            # The engine refuses it at the door; one that another version carried over comes here.
            self._host.issue(
                SignalRefused(
                    at_ms=self._host.now_ms,
                    signal_id=received.signal_id,
                    signal=RESEED,
                    reason=str(error),
                )
            )
            return
        if said.name is None:
            self._seed = said.seed
            self._seeds.clear()
        else:
            self._seeds[said.name] = said.seed
        for name, known in self._open.items():
            if said.name in (None, name):
                generators.restart(known, said.seed, name)
                self._recorded[name] = generators.standing(known)
