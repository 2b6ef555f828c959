"""Orders through a storm of kills and stops; then everything is checked from outside.

Run    python -m tests.chaos --orders 200 --seed 7
       make chaos ARGS="--orders 400 --seed 11"

The same seed gives the same orders, messages and faults at the same instants.  The rest is real
time on real processes and differs from run to run: what a kill meets is decided by the machine.
Variable ACCEPTANCE_SERVER names another server's program than the packaged Valkey.
"""

import argparse
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.acceptance.stack import SERVER
from tests.chaos.aftermath import Aftermath, figures
from tests.chaos.claims import all_claims
from tests.chaos.storm import Setting, Storm

#: Seconds of storm for each order: with 200 orders, 80 s.
_SECONDS_PER_ORDER = 0.4
_SECONDS_MIN = 20.0
_DETAILS_MAX = 20
#: Celery prefers these to the server that the storm names.
_FOREIGN = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")


def main(arguments: list[str]) -> int:
    """Run a storm, print its story and its claims; return 0 if all of them hold, else 1."""
    chosen = _parser().parse_args(arguments)
    seconds = chosen.seconds or max(_SECONDS_MIN, chosen.orders * _SECONDS_PER_ORDER)
    setting = Setting(
        orders=chosen.orders, seed=chosen.seed, seconds=seconds, settle_s=chosen.settle
    )
    directory = Path(tempfile.mkdtemp(prefix="orchestrator-storm-", dir=chosen.directory))
    server = os.environ.get(SERVER) or "the packaged Valkey"
    _say(f"storm of {seconds:g} s over {chosen.orders} orders, seed {chosen.seed}, on {server}")
    _say("the seed gives orders and faults; real time decides what they meet")
    _say(f"data and logs: {directory}")
    began = time.monotonic()
    held: list[bool] = []
    try:
        with _own_environment():
            Storm(setting, directory, _say).rage(lambda after: held.append(_judge(after)))
    except BaseException:
        _say(f"\nbroken off; kept: {directory}")
        raise
    is_good = held == [True]
    took_s = time.monotonic() - began
    _say(f"\n{'all claims hold' if is_good else 'NOT all claims hold'}; {took_s:.0f} s in all")
    if is_good and not chosen.keep:
        shutil.rmtree(directory)
    else:
        _say(f"kept: {directory}; repeat with --seed {chosen.seed} --orders {chosen.orders}")
    return 0 if is_good else 1


def _judge(after: Aftermath) -> bool:
    """Print the claims and figures; return whether all claims hold."""
    is_good = True
    _say("")
    for claim in all_claims(after):
        _say(f"{'NO' if claim.against else 'ok':3}{claim.sentence}")
        for line in claim.figures.splitlines():
            _say(f"     {line}")
        for line in claim.against[:_DETAILS_MAX]:
            _say(f"     - {line}")
        if len(claim.against) > _DETAILS_MAX:
            _say(f"     - and {len(claim.against) - _DETAILS_MAX} more")
        is_good = is_good and not claim.against
    _say("")
    for line in figures(after):
        _say(f"   {line}")
    return is_good


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--orders", type=int, default=200, help="how many (200)")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(10_000), help="any number; else a new one"
    )
    parser.add_argument("--seconds", type=float, help="of the storm (0.4 for each order)")
    parser.add_argument(
        "--settle", type=float, default=150.0, help="seconds until all have to have ended (150)"
    )
    parser.add_argument("--directory", type=Path, help="where to make the storm's own directory")
    parser.add_argument("--keep", action="store_true", help="keep data and logs in any case")
    return parser


@contextmanager
def _own_environment() -> Iterator[None]:
    """Keep out of the way of another broker that this shell may name."""
    outer = {name: os.environ.pop(name) for name in _FOREIGN if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(outer)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
