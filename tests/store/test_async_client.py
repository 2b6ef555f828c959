"""The asyncio client of the store says what the sync one says."""

import asyncio
from collections.abc import Awaitable, Callable

import fakeredis
import pytest

from orchestrator.core.errors import ConfigurationError, StoreUnavailable
from orchestrator.store import run_calls
from orchestrator.store.connect import connect, connect_async
from orchestrator.store.index_ports import Window
from orchestrator.store.ports import Answer, Kind, PostedAnswer, StartAnswer
from orchestrator.store.redis import RedisStore
from orchestrator.store.redis_async import AsyncRedisClientStore
from tests.store.world import START, World, redis_world


def on_valkey(url: str, body: Callable[[AsyncRedisClientStore, World], Awaitable[None]]) -> None:
    """Run `body` with an asyncio store and a world on the same server."""

    async def main() -> None:
        store = AsyncRedisClientStore(connect_async(url))
        try:
            with connect(url) as client, connect(url) as blocking:
                await body(store, redis_world(RedisStore(client, blocking=blocking), client))
        finally:
            await store.aclose()

    asyncio.run(main())


def test_every_call_answers_as_the_sync_one(valkey_url: str) -> None:
    async def body(store: AsyncRedisClientStore, world: World) -> None:
        started = await store.start("order-42", request_id="request-1", body=START)
        assert started.answer is StartAnswer.STARTED
        again = await store.start("order-42", request_id="request-1", body=START)
        assert again.answer is StartAnswer.REPEATED
        key = world.open_run()
        posted = await store.post("order-42", Kind.SIGNAL, {"signal": "s"})
        assert posted.answer is PostedAnswer.POSTED
        assert [entry.kind for entry in world.inbox()] == [Kind.SIGNAL]
        assert await store.find_row("order-42") == world.store.find_row("order-42")
        assert await store.find_row("nobody") is None
        assert await store.read_history(key) == world.store.read_history(key)
        page = world.store.page_runs(["all"], Window(count=9))
        assert len(page.rows) == 1
        assert await store.page_runs(["all"], Window(count=9)) == page
        assert await store.index_sizes(["all", "status:failed"]) == [1, 0]
        runs = [("order-42", 1), ("order-42", 2)]
        assert await store.read_rows(runs) == world.store.read_rows(runs)
        assert await store.wait_for_event(key, after_seq=0, wait_ms=0)
        assert not await store.wait_for_event(key, after_seq=1, wait_ms=5)
        assert await store.wait_for_answer("order-42", "r1", wait_ms=5) is None
        world.store.answer([Answer(reply_to="r1", body={"ok": 1})])
        assert await store.wait_for_answer("order-42", "r1", wait_ms=0) == {"ok": 1}

    on_valkey(valkey_url, body)


def test_waiting_coroutines_are_woken_together(valkey_url: str) -> None:
    async def body(store: AsyncRedisClientStore, world: World) -> None:
        key = world.open_run()
        waits = [
            *(store.wait_for_event(key, after_seq=1, wait_ms=20_000) for _ in range(5)),
            *(store.wait_for_answer("order-42", "r1", wait_ms=20_000) for _ in range(5)),
        ]
        waiting = asyncio.gather(*waits)
        assert world.client is not None
        while world.client.info("clients")["blocked_clients"] < 10:
            await asyncio.sleep(0)
        world.commit(key, ["a"])
        world.store.answer([Answer(reply_to="r1", body={"ok": 1})])
        assert await waiting == [True] * 5 + [{"ok": 1}] * 5

    on_valkey(valkey_url, body)


@pytest.mark.parametrize("turns", [0, 100], ids=["while sending", "while waiting"])
def test_cancelled_wait_ends_and_leaves_no_answer_for_the_next_caller(
    valkey_url: str, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One read of several: the cancellation has to end them all.
    monkeypatch.setattr(run_calls, "BLOCK_MS_MAX", 200)

    async def body(store: AsyncRedisClientStore, world: World) -> None:
        key = world.open_run()
        wait = asyncio.ensure_future(store.wait_for_event(key, after_seq=1, wait_ms=6_000))
        assert world.client is not None
        while world.client.info("clients")["blocked_clients"] < 1:
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        wait.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wait
        world.commit(key, ["a"])
        assert await store.wait_for_answer("order-42", "r1", wait_ms=5) is None
        assert await store.wait_for_event(key, after_seq=1, wait_ms=5)

    on_valkey(valkey_url, body)


def test_forgotten_scripts_are_loaded_again(valkey_url: str) -> None:
    async def body(store: AsyncRedisClientStore, world: World) -> None:
        assert world.client is not None
        await store.open()
        world.client.script_flush()
        started = await store.start("order-42", request_id="r", body=START)
        assert started.answer is StartAnswer.STARTED

    on_valkey(valkey_url, body)


def test_no_server_is_no_answer() -> None:
    async def main() -> None:
        store = AsyncRedisClientStore(connect_async("redis://127.0.0.1:1/0"))
        with pytest.raises(StoreUnavailable, match="open"):
            await store.find_row("order-42")
        await store.aclose()

    asyncio.run(main())


def test_other_partition_count_is_refused() -> None:
    async def main() -> None:
        fake = fakeredis.FakeAsyncRedis(protocol=2)
        await AsyncRedisClientStore(fake, partitions=4, blocking=fake).open()
        with pytest.raises(ConfigurationError):
            await AsyncRedisClientStore(fake, partitions=8, blocking=fake).open()
        await fake.aclose()

    asyncio.run(main())
