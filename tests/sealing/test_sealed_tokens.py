"""What comes by a token is sealed like what a worker says."""

from pathlib import Path
from typing import Any

from celery import Celery

from orchestrator import workflow
from orchestrator.app import Orchestrator
from orchestrator.store.ports import AttemptKey
from orchestrator.store.step_tokens import encode_token
from tests.sealing.sealed_world import SECRET, SealedWorld


async def asking() -> Any:
    return await workflow.step("ask")


def test_details_and_result_that_come_by_a_token_are_sealed(tmp_path: Path) -> None:
    world = SealedWorld(asking)
    app = Celery("sealed", broker="memory://", set_as_current=False)
    orc = Orchestrator(app, store=world.store, blobs=tmp_path)
    world.start("asking")
    world.turn()
    message = world.pop()
    assert message
    world.claim(message)
    key = AttemptKey.parse(message["key"])
    world.store.detach(key, "worker/1")
    handle = orc.step(encode_token(key, "worker/1"))
    handle.heartbeat({"card": SECRET})
    assert not world.is_readable()
    handle.complete({"card": SECRET})
    assert not world.is_readable()
    world.settle()
    assert world.result() == {"card": SECRET}
    assert not world.is_readable()
    app.close()
