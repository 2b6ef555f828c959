"""What a deployment may set of the engine; everything else is in core.limits."""

from dataclasses import dataclass

from orchestrator.core.limits import (
    ACTIVATION_MS_MAX,
    CLAIM_TTL_MS,
    INBOX_BLOCK_MS,
    LEASE_TTL_MS,
    ORCHESTRATOR_TTL_MS,
    RUN_CACHE_MAX,
    WORK_PER_COMMIT_MS_MAX,
    renew_interval_ms,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Settings of one orchestrator; see `core.limits` for the meaning of each bound.

    Raises:
        ValueError: A number out of its range.
    """

    lease_ttl_ms: int = LEASE_TTL_MS
    orchestrator_ttl_ms: int = ORCHESTRATOR_TTL_MS
    claim_ttl_ms: int = CLAIM_TTL_MS
    inbox_block_ms: int = INBOX_BLOCK_MS
    activation_ms_max: int = ACTIVATION_MS_MAX
    run_cache_max: int = RUN_CACHE_MAX

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"EngineSettings.{name} is {value}; at least 1 is wanted")
        longest_ms = WORK_PER_COMMIT_MS_MAX + self.activation_ms_max + self.inbox_block_ms
        if longest_ms >= self.lease_ttl_ms - self.lease_renew_interval_ms:
            raise ValueError(
                f"EngineSettings: activation_ms_max {self.activation_ms_max} and inbox_block_ms "
                f"{self.inbox_block_ms}, with {WORK_PER_COMMIT_MS_MAX} for other runs, must stay "
                f"below two thirds of lease_ttl_ms {self.lease_ttl_ms}: one slow activation would "
                f"cost the lease"
            )

    @property
    def lease_renew_interval_ms(self) -> int:
        """See `core.limits.renew_interval_ms`."""
        return renew_interval_ms(self.lease_ttl_ms)
