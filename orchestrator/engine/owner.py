"""The owner's cycle: what arrived and what is due becomes history, for all partitions held.

C1  A cycle reads, decides, commits, and only then acts on what it committed; between two cycles
    nothing is in flight.
C2  Nothing in a cycle waits for one run: a run that cannot be worked on rests for a moment, and the
    others go on.
C3  What was read but not committed is read again: after any doubt the cursor goes back to the
    start, since an inbox holds exactly what is not history yet.  Blocked runs, for which nothing
    may ever arrive, are poked: when their partition is gained, and after any doubt.
"""

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from orchestrator.core.events import Event, decode
from orchestrator.core.limits import (
    DUE_TAKE_MAX,
    INBOX_TAKE_MAX,
    RUNS_PER_COMMIT_MAX,
    SWEEP_INTERVAL_MS,
    WORK_PER_COMMIT_MS_MAX,
)
from orchestrator.core.values import loads
from orchestrator.engine.cache import RunCache
from orchestrator.engine.chains import Forwarding, Sorting
from orchestrator.engine.delays import arrivals_of_unbegun
from orchestrator.engine.draft import Draft
from orchestrator.engine.leases import Leases
from orchestrator.engine.letters import LetterStore, deliver
from orchestrator.engine.local_steps import StepsHere
from orchestrator.engine.resting import Rests
from orchestrator.engine.run import Arrival, LiveRun, Poke, UnfitEntry
from orchestrator.engine.settings import EngineSettings
from orchestrator.engine.turn import Tools
from orchestrator.engine.work import Work
from orchestrator.store.keys import partition_of
from orchestrator.store.ports import (
    Commit,
    CommitResult,
    InboxEntry,
    Kind,
    RunKey,
)

logger = logging.getLogger("orchestrator.engine")

_FROM_THE_START = "0"
#: How long a run rests whose log, blob or code could not be worked on.
_REST_MS = 1_000


class Owner:
    """Drives the runs of the partitions that one orchestrator holds.  One thread uses it."""

    def __init__(
        self,
        store: LetterStore,
        leases: Leases,
        tools: Tools,
        local: StepsHere,
        settings: EngineSettings,
        *,
        clock: Callable[[], int],
    ) -> None:
        self._clock = clock
        self._store = store
        self._leases = leases
        self._tools = tools
        self._local = local
        self._settings = settings
        self.cache = RunCache(settings.run_cache_max)
        self._cursors: dict[int, str] = {}
        #: Partitions whose leases it has acted upon, with the token of each.
        self._taken_over: dict[int, str] = {}
        self._resting: dict[RunKey, int] = {}
        self._rests = Rests()
        self._doubted: set[RunKey] = set()
        #: Runs that are to try again whether anything arrives for them or not.
        self._pokes: deque[RunKey] = deque()
        #: Partitions whose blocked runs are to be poked.
        self._unpoked: set[int] = set()
        self._forwarding = Forwarding()
        #: Partitions in which letters may lie that are not delivered.
        self._with_letters: set[int] = set()
        self._sweep_at_ms = 0
        #: Steps sent and not heard of since nothing arrived for a while: whether to gather.
        self.in_flight = 0

    # --- partitions ------------------------------------------------------------------------------

    def balance(self, now_ms: int) -> None:
        """Take part in the sharing of partitions; see `Leases.balance`.

        Raises:
            StoreUnavailable: No answer.  Leases may have been taken or lost all the same; what that
                means is made up for by the next call, which has to precede the next cycle.
        """
        self._leases.balance(now_ms)
        held = dict(self._leases.tokens)
        lost = [p for p, token in self._taken_over.items() if held.get(p) != token]
        for partition in lost:
            self._forget_runs(partition)
        gained = held.keys() - self._taken_over.keys()
        for partition in sorted(gained):
            self._unpoked.add(partition)
            self._cursors[partition] = _FROM_THE_START
            self._taken_over[partition] = held[partition]
            self._with_letters.add(partition)
            self._sweep_at_ms = 0
        for partition in sorted(self._unpoked & held.keys()):
            self._pokes.extend(self._store.list_blocked(partition))
            self._unpoked.discard(partition)
        if gained or lost:
            logger.info("owns %d partitions: %s", len(held), " ".join(map(str, sorted(held))))

    def drop_partition(self, partition: int) -> None:
        """Forget a partition: its runs leave memory, its lease is no longer used."""
        self._leases.forget(partition)
        self._forget_runs(partition)

    def _forget_runs(self, partition: int) -> None:
        self._cursors.pop(partition, None)
        self._taken_over.pop(partition, None)
        self.cache.drop_where(lambda run: run.partition == partition)
        self._rests.drop_where(lambda key: self._partition_of(key.workflow_id) == partition)

    def drop_everything(self) -> None:
        """Forget all partitions and runs: the store may have lost its tail."""
        for partition in list(self._leases.tokens):
            self.drop_partition(partition)
        self._leases.forget_all()
        self.cache.drop_where(lambda run: True)
        self._resting.clear()
        self._pokes.clear()

    def doubt(self) -> None:
        """After a call without an answer: nothing in memory is sure (R1, C3).

        The next call of `balance` looks for blocked runs again: a poke may have been taken in vain.
        """
        self.cache.drop_where(lambda run: True)
        self._pokes.clear()
        self._unpoked.update(self._cursors)
        for partition in self._cursors:
            self._cursors[partition] = _FROM_THE_START
            self._with_letters.add(partition)
        self._sweep_at_ms = 0

    def keep(self) -> None:
        """Renew, where it is time, what has to outlive a long cycle: leases and local claims.

        Raises:
            StoreUnavailable: No answer; call `doubt` before the next cycle.
        """
        now_ms = self._clock()
        for partition in self._leases.renew_due(now_ms):
            self._forget_runs(partition)
        self._local.renew_due(now_ms, ttl_ms=self._settings.claim_ttl_ms)

    # --- the cycle -------------------------------------------------------------------------------

    def cycle(
        self,
        *,
        block_ms: int,
        grace_until_ms: int = 0,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> int:
        """Work through what arrived and what is due; return the number of commits.

        Args:
            block_ms: Longest wait for something to arrive; 0 does not wait.
            grace_until_ms: Until then expired claims are left alone: after an outage their
                workers first get the chance to renew them.
            is_stopping: Once true the cycle ends with the commit it is at, and no other may
                follow: what it has read and not worked on is for the next owner.

        Raises:
            StoreUnavailable: No answer; call `doubt` before the next cycle.
        """
        work = Work()
        if self._resting:
            self._wake_resting()
        self._deliver()
        cursors = {p: self._cursors[p] for p in self._leases.tokens}
        if not cursors:
            return 0
        taken = self._store.take_inbox(
            cursors, count=INBOX_TAKE_MAX, block_ms=0 if self._pokes else block_ms
        )
        if not any(taken.values()):
            self.in_flight = 0
        self._tell(taken)
        for partition, entries in taken.items():
            if entries:
                outcomes = sum(entry.kind is Kind.OUTCOME for entry in entries)
                self.in_flight = max(0, self.in_flight - outcomes)
                self._cursors[partition] = entries[-1].id
                self._sort(partition, entries, work)
        if self._clock() >= self._sweep_at_ms:
            self._sweep(work, grace_until_ms)
        for _ in range(min(len(self._pokes), RUNS_PER_COMMIT_MAX)):
            work.add(self._pokes.popleft(), Poke())
        return self._work_through(work, is_stopping) if work.arrivals else 0

    def _tell(self, taken: Mapping[int, Sequence[InboxEntry]]) -> None:
        """Tell the observer what there is, and how long the oldest new arrivals lay unread."""
        now_ms = self._clock()
        # What is read again from the start may have been kept there on purpose.
        news = [
            entries[0].id
            for partition, entries in taken.items()
            if entries and self._cursors[partition] != _FROM_THE_START
        ]
        self._tools.observer.turned(
            runs=len(self.cache),
            partitions=len(self._cursors),
            waited_ms=[max(0, now_ms - int(id.partition("-")[0])) for id in news],
        )
        self._tools.observer.rested(self._rests.count(now_ms))

    def _deliver(self) -> None:
        """Deliver the letters that commits have written (C1)."""
        for partition in list(self._with_letters):
            if partition not in self._leases.tokens or not deliver(self._store, partition):
                self._with_letters.discard(partition)

    def _sort(self, partition: int, entries: Sequence[InboxEntry], work: Work) -> None:
        nobodys = []
        sorting = Sorting(self._store, self._forwarding, self.cache.holds)
        for entry in entries:
            run = sorting.run_of(entry)
            if run:
                work.add(RunKey(workflow_id=entry.workflow_id, run=run), entry)
            else:
                nobodys.append(entry)
        if nobodys:
            self._refuse(partition, nobodys)

    def _refuse(self, partition: int, entries: Sequence[InboxEntry]) -> None:
        for entry in entries:
            if entry.kind is Kind.SIGNAL:
                body = {name: str(value) for name, value in entry.body.items() if name != "payload"}
                self._store.reject({"workflow": entry.workflow_id, **body}, "no run has this id")
            logger.warning("%s for %s: no run has this id", entry.kind.value, entry.workflow_id)
        token = self._leases.tokens[partition]
        self._store.discard(partition, token, [entry.id for entry in entries])

    def _sweep(self, work: Work, grace_until_ms: int) -> None:
        # Each partition has its share of a cycle: whatever arrives meanwhile waits for its end.
        share = max(1, DUE_TAKE_MAX // max(1, len(self._leases.tokens)))
        # What is of resting runs comes on top: it would hide, for good, what lies behind it.
        count = share + len(self._resting)
        now_ms, found = self._store.sweep(list(self._leases.tokens), count=count)
        work.seen_ms = now_ms
        self._sweep_at_ms = now_ms + SWEEP_INTERVAL_MS
        for due in found.values():
            claims = due.claims if now_ms >= grace_until_ms else []
            if work.add_due(due.timers, claims, count=share, resting=self._resting):
                self._sweep_at_ms = now_ms
        for due in found.values():
            if due.next_due_ms is not None:
                self._sweep_at_ms = min(self._sweep_at_ms, due.next_due_ms)

    def look_now(self) -> None:
        """Have the next cycle look for all that is due: a clock was set, or a worker set timers."""
        self._sweep_at_ms = 0

    def wait_ms(self, now_ms: int, longest_ms: int) -> int:
        """Return how long the next cycle may wait for arrivals: never beyond the next timer."""
        return max(1, min(longest_ms, self._sweep_at_ms - now_ms))

    def _wake_resting(self) -> None:
        now_ms = self._clock()
        for key, until_ms in list(self._resting.items()):
            if now_ms >= until_ms:
                del self._resting[key]
                partition = self._partition_of(key.workflow_id)
                if partition in self._cursors:
                    self._cursors[partition] = _FROM_THE_START
                    self._pokes.append(key)  # One that it was given may be all that moves it.
                self._sweep_at_ms = 0

    def _partition_of(self, workflow_id: str) -> int:
        return partition_of(workflow_id, self._store.partitions)

    # --- runs ------------------------------------------------------------------------------------

    def _work_through(self, work: Work, is_stopping: Callable[[], bool]) -> int:
        count, now_ms = 0, max(self._clock(), work.seen_ms)
        waiting = deque(work.arrivals.items())
        while waiting and not is_stopping():
            count += self._commit(self._work_on(waiting, now_ms))
            self._rests.tell(self._store, self._leases.tokens, self._partition_of, now_ms)
            self._deliver()
            # A cycle over many runs that have to be replayed takes longer than a lease lasts.
            self.keep()
        return count

    def _work_on(self, waiting: deque[tuple[RunKey, list[Arrival]]], now_ms: int) -> list[LiveRun]:
        """Take what fits between two commits off `waiting`; return the runs worked on."""
        runs: list[LiveRun] = []
        until_ms = self._clock() + WORK_PER_COMMIT_MS_MAX
        for _ in range(min(len(waiting), RUNS_PER_COMMIT_MAX)):
            if self._clock() >= until_ms:
                break
            key, arrivals = waiting.popleft()
            if key in self._resting:
                continue
            run = self.cache.take(key)
            if run is not None:
                self._tools.observer.looked_up(is_in_memory=True)
            try:
                run = run or self._load(key, arrivals)
                run.is_chain_over = self._forwarding.is_over(key)
                if not run.has_begun:
                    arrivals = arrivals_of_unbegun(self._store, run, arrivals, now_ms)
                run.take(arrivals, now_ms=now_ms)
            except UnfitEntry as error:
                self._set_aside(run, error)
            except Exception as error:  # noqa: BLE001 - told by `_rest`
                # The process boundary of one run (C2).  Whatever it is, the log is untouched, and
                # the others must go on.  A blob that is missing concerns one run; a store that is
                # away ends the cycle at the next call of it.
                self._rest(key, run, now_ms, error)
            else:
                self._rests.end(key)
                runs.append(run)
        return runs

    def _set_aside(self, run: LiveRun | None, unfit: UnfitEntry) -> None:
        """Move what a run cannot take out of its way; all else that has arrived is read again."""
        entry = unfit.entry
        logger.error(
            "%s %s: set aside: %s",
            entry.workflow_id,
            entry.kind.value,
            unfit.reason,
            exc_info=unfit.__cause__,
        )
        if run is not None:
            run.close()
            self._doubted.add(run.key)
        partition = self._partition_of(entry.workflow_id)
        token = self._leases.tokens.get(partition)
        if token is not None:
            self._store.set_aside(partition, token, entry.id, unfit.reason)
        self._read_again(partition)

    def _rest(self, key: RunKey, run: LiveRun | None, now_ms: int, error: Exception) -> None:
        if run is not None:
            run.close()
        self._rests.add(key, error, now_ms)
        self._resting[key] = now_ms + _REST_MS

    def _load(self, key: RunKey, arrivals: list[Arrival]) -> LiveRun:
        run = LiveRun(key, self._partition_of(key.workflow_id), self._tools, self.keep)
        is_new = any(isinstance(a, InboxEntry) and a.kind is Kind.START for a in arrivals)
        if is_new and key not in self._doubted:
            return run  # Nothing precedes a start; were it otherwise, the commit would conflict.
        self._doubted.discard(key)
        self._tools.observer.looked_up(is_in_memory=False)
        stored = self._store.read_history(key)
        events: list[Event] = [decode(loads(event.data)) for event in stored]  # type: ignore[arg-type]
        run.load(events, stored[-1].head if stored else "")
        return run

    def _commit(self, worked: Sequence[LiveRun]) -> int:
        forwarded = 0
        commits: list[tuple[str, Commit]] = []
        runs: list[LiveRun] = []
        for run in worked:
            token = self._leases.tokens.get(run.partition)
            if token is None:
                run.close()
            elif run.draft.is_empty:
                # Queries, repetitions, what came too late: nothing of it is history, and a commit
                # would conflict where a later run of the id has taken over the row.
                draft = run.draft
                if draft.inbox_ids or draft.timers_removed or draft.given_up:
                    gone = (draft.inbox_ids, list(draft.timers_removed), draft.given_up)
                    self._store.discard(run.partition, token, *gone)
                forwarded += run.was_cut_short
                run.committed()
                self._after(run, draft)
            else:
                commits.append((token, run.draft.commit()))
                runs.append(run)
        try:
            results = self._store.commit(commits) if commits else []
        except BaseException:
            for run in runs:
                run.close()
            raise
        for run, result in zip(runs, results, strict=True):
            self._settle(run, result)
        return len(commits) + forwarded

    def _settle(self, run: LiveRun, result: CommitResult | None) -> None:
        if result is CommitResult.COMMITTED:
            self._tools.observer.committed(run.committing)
            draft = run.draft
            run.committed()
            self._after(run, draft)
            return
        self._tools.observer.refused(result.value if result else "unknown")
        # Refused or unknown: the run in memory has seen what may never become history.
        run.close()
        self._doubted.add(run.key)
        if result is CommitResult.FENCED:
            logger.warning("partition %d: another orchestrator owns it now", run.partition)
            self.drop_partition(run.partition)
            return
        logger.info("%s: commit %s; read again", run.key, result.value if result else "unknown")
        self._with_letters.add(run.partition)  # It may have been carried out: then they lie there.
        self._pokes.append(run.key)  # As for one that it took: nothing else may arrive for it.
        self._read_again(run.partition)

    def _read_again(self, partition: int) -> None:
        if partition in self._cursors:
            self._cursors[partition] = _FROM_THE_START
        self._sweep_at_ms = 0

    def _settle_undelivered(self, run: LiveRun) -> None:
        """Settle what came too late, and only then let go of it.

        A crash in between settles it twice; the other way round it would be lost.
        """
        ids = [late.settle(self._store) for late in run.undelivered]
        run.undelivered = []
        token = self._leases.tokens.get(run.partition)
        if token is not None:
            self._store.discard(run.partition, token, ids)

    def _after(self, run: LiveRun, draft: Draft) -> None:
        """Act on what is history now: answers, local steps, the cache."""
        if run.questions.answers:
            self._store.answer(run.questions.answers)
            run.questions.answers = []
        if run.undelivered:
            self._settle_undelivered(run)
        self.in_flight += len(draft.messages)
        if draft.letters:
            self._with_letters.add(run.partition)
        for outgoing, token in draft.local_sent:
            self._local.submit(outgoing, token)
        for key in draft.local_cancelled:
            self._local.cancel(key)
        for due_ms in draft.timers_set.values():
            if due_ms < self._sweep_at_ms:
                self._sweep_at_ms = due_ms
        if draft.closed_at_ms is not None:
            logger.info("%s %s", run.key, run.status)
        self._keep_or_close(run)

    def _keep_or_close(self, run: LiveRun) -> None:
        if run.is_continued:
            self._forwarding.note(run.key)
        is_dropped = run.is_closed or run.questions.is_spoiled or not run.has_begun
        if is_dropped:
            run.close()
        elif run.is_to_try_again:
            run.close()
            self._pokes.append(run.key)
        else:
            self.cache.put(run)
        if run.was_cut_short or (is_dropped and run.has_kept_mail):
            run.was_cut_short = False
            self._read_again(run.partition)
