"""Connections to Redis or Valkey, made so that nothing is sent twice behind the engine's back.

redis-py repeats writes up to ten times by default, and a read that blocks longer than the socket
time-out is taken for a dead connection.  Hence: retries off, and blocking reads on connections of
their own with a longer time-out.
"""

from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from orchestrator.core.errors import ConfigurationError

#: A server that is silent for so long is taken for dead; what was asked may have happened.
SOCKET_TIMEOUT_SECONDS = 5.0
#: Longest wait of one blocking read; longer waits are several reads.
BLOCK_MS_MAX = 5_000
#: A blocking read may take its wait, and then as long as any other answer.
BLOCKING_TIMEOUT_SECONDS = BLOCK_MS_MAX / 1000 + SOCKET_TIMEOUT_SECONDS
#: An idle connection is asked for a sign of life before it is used again.
HEALTH_CHECK_SECONDS = 15

#: What replies look like, and so no choice of the caller's.
_FIXED: dict[str, Any] = {"protocol": 2, "decode_responses": False}
_DEFAULTS: dict[str, Any] = {
    "socket_timeout": SOCKET_TIMEOUT_SECONDS,
    "socket_connect_timeout": SOCKET_TIMEOUT_SECONDS,
    "socket_keepalive": True,
    "health_check_interval": HEALTH_CHECK_SECONDS,
}


def connect(url: str, **settings: Any) -> redis.Redis:
    """Return a client for `url` (``redis://``, ``rediss://``, ``unix://``); nothing is sent yet.

    `settings` go to redis-py and win over ours, but for retries, protocol and decoding.

    Raises:
        ConfigurationError: Not such an address.
    """
    client: redis.Redis = _from_url(redis.Redis, Retry(NoBackoff(), 0), url, settings)
    return client


def connect_async(url: str, **settings: Any) -> redis.asyncio.Redis:
    """Return an asyncio client for `url`; see `connect`."""
    retry = AsyncRetry(NoBackoff(), 0)
    client: redis.asyncio.Redis = _from_url(redis.asyncio.Redis, retry, url, settings)
    return client


def _from_url(kind: Any, retry: Any, url: str, settings: dict[str, Any]) -> Any:
    try:
        return kind.from_url(url, **{**_DEFAULTS, **settings, **_FIXED, "retry": retry})
    except (ValueError, RedisError) as error:
        # The address may hold a password: only its scheme is told.
        found = url.partition(":")[0]
        raise ConfigurationError("store address", f"{found}:…", f"an address: {error}") from error


def blocking_twin(client: Any) -> Any:
    """Return a client for the same server whose reads may block up to ``BLOCK_MS_MAX``.

    It has a pool of its own: a blocked read must not keep a write waiting for a connection.
    """
    pool = client.connection_pool
    settings = {**pool.connection_kwargs, "socket_timeout": BLOCKING_TIMEOUT_SECONDS}
    twin_pool = type(pool)(connection_class=pool.connection_class, **settings)
    return type(client)(connection_pool=twin_pool)
