"""Promise: settings that would make owners lose what they hold are refused, with the reason."""

import pytest

from orchestrator.core import limits
from orchestrator.engine.settings import EngineSettings


def test_one_place_decides_how_often_leases_and_claims_are_renewed() -> None:
    settings = EngineSettings()
    assert settings.lease_renew_interval_ms == limits.LEASE_RENEW_INTERVAL_MS
    assert limits.renew_interval_ms(limits.LEASE_TTL_MS) == limits.LEASE_RENEW_INTERVAL_MS
    # Of two reasons to renew a worker's claim, to keep it and to hear of a cancel, the sooner one.
    assert (
        min(limits.renew_interval_ms(limits.CLAIM_TTL_MS), limits.CANCEL_HEARD_MS_MAX)
        == limits.CLAIM_RENEW_INTERVAL_MS
    )
    shorter = EngineSettings(lease_ttl_ms=4_500)
    assert shorter.lease_renew_interval_ms == 4_500 // limits.RENEWALS_PER_TTL


@pytest.mark.parametrize(
    "options",
    [
        {"lease_ttl_ms": 3_000},
        {"activation_ms_max": limits.LEASE_TTL_MS},
        {"inbox_block_ms": limits.LEASE_TTL_MS},
    ],
    ids=str,
)
def test_lease_that_one_slow_activation_would_cost_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="one slow activation would cost the lease"):
        EngineSettings(**options)


def test_nothing_lasts_no_time() -> None:
    with pytest.raises(ValueError, match=r"claim_ttl_ms is 0; at least 1 is wanted"):
        EngineSettings(claim_ttl_ms=0)
