"""Promise: P1 to P6 hold together for forty mixed orders, while everything is killed and stopped.

The short form of ``make chaos``: one fault of each kind, a seed that never changes.  What it
checks, and how it knows, is told in `tests.chaos.claims`.
"""

from pathlib import Path

import pytest

from tests.chaos.aftermath import Aftermath
from tests.chaos.claims import Claim, all_claims
from tests.chaos.faults import KINDS
from tests.chaos.storm import Setting, Storm

pytestmark = pytest.mark.long

SHORT = Setting(orders=40, seed=7, seconds=17.0, settle_s=60.0)


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_forty_orders_keep_all_promises_through_a_storm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    story: list[str] = []
    claims: list[Claim] = []
    done: set[object] = set()
    repeated: list[int] = []

    def judge(after: Aftermath) -> None:
        claims.extend(all_claims(after))
        done.update(after.tally.done)
        repeated.append(after.books.repeated()[1])

    Storm(SHORT, tmp_path, story.append).rage(judge)
    for claim in claims:
        told = "\n".join([claim.sentence, *claim.against, f"logs: {tmp_path}", *story])
        assert not claim.against, told
    assert done == set(KINDS), "a storm without one of its faults shows nothing about it"
    assert repeated[0] > 0, "no effect was tried twice: nothing was shown about keys"
