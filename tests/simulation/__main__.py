"""``python -m tests.simulation``: many seeds, or the story of one."""

import argparse
import gc
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence

from tests.simulation.run import Outcome, simulate

#: Failures told in full; of the others the seed alone.
_TOLD_MAX = 5
#: Seeds between two collections of garbage: in between it would only cost time.
_SEEDS_PER_COLLECTION = 50


def main(arguments: Sequence[str]) -> int:
    """Run what is asked for; return the exit code, 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many seeds (1000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side (1)")
    parser.add_argument("--seed", type=int, help="repeat this one, and tell its story")
    asked = parser.parse_args(arguments)
    if asked.seed is not None:
        return _tell(asked.seed)
    return _run_all(range(asked.first, asked.first + asked.seeds), asked.jobs)


def _tell(seed: int) -> int:
    outcome = simulate(seed, is_told=True)
    _say("\n".join(outcome.story))
    _say(f"\nseed {seed}: {outcome.broken or 'all promises kept'}")
    return 1 if outcome.broken else 0


def _run_all(seeds: range, jobs: int) -> int:
    began_s = time.monotonic()
    failed: list[Outcome] = []
    for outcome in _outcomes(seeds, jobs):
        if outcome.broken is None:
            continue
        failed.append(outcome)
        if len(failed) <= _TOLD_MAX:
            _say(f"seed {outcome.seed}: {outcome.broken}")
            _say(f"  repeat:   python -m tests.simulation --seed {outcome.seed}\n")
    took_s = time.monotonic() - began_s
    _say(
        f"{len(seeds)} seeds from {seeds.start} in {took_s:.1f} s, "
        f"{len(seeds) / took_s:.1f} seeds/s with {jobs} processes: "
        f"{f'{len(failed)} FAILED' if failed else 'all promises kept'}"
    )
    if failed:
        _say("failed: " + " ".join(str(outcome.seed) for outcome in failed))
    return 1 if failed else 0


def _outcomes(seeds: range, jobs: int) -> Iterator[Outcome]:
    """Yield what became of each seed, in order."""
    if jobs == 1:
        yield from map(one, seeds)
        return
    with multiprocessing.get_context("fork").Pool(jobs, initializer=gc.disable) as pool:
        yield from pool.imap(one, seeds, chunksize=_SEEDS_PER_COLLECTION)


def one(seed: int) -> Outcome:
    """Return what became of `seed`; collects garbage now and then."""
    has_collector = gc.isenabled()
    gc.disable()
    try:
        if seed % _SEEDS_PER_COLLECTION == 0:
            gc.collect()
        return simulate(seed)
    finally:
        if has_collector:
            gc.enable()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
