"""An app whose payloads are encrypted, under the master keys that the environment names."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace

from celery import Celery

from orchestrator import (
    ApplicationError,
    EncryptionCodec,
    Interceptor,
    Keyring,
    Orchestrator,
    Retry,
    StartWorkflow,
    step,
    workflow,
)


class Carrying(Interceptor):
    """Puts the card into the headers of its run: a secret there too."""

    async def start_workflow(
        self, call: StartWorkflow, proceed: Callable[[StartWorkflow], Awaitable[int]]
    ) -> int:
        """See `Interceptor.start_workflow`."""
        return await proceed(replace(call, headers={"card": call.args[0]}))


app = Celery("sealed", broker=os.environ["CELERY_BROKER_URL"])
orc = Orchestrator(
    app,
    payload_codec=EncryptionCodec(Keyring.from_environment()),
    interceptors=[Carrying()],
)
app.conf.worker_send_task_events = True
app.conf.task_send_sent_event = True

#: A result beyond what a history keeps inline.
_REPEATS = 20_000


@app.task(bind=True)
def charge(self, card: str) -> str:  # type: ignore[no-untyped-def] # noqa: ANN001
    """Fail once, with the card in the text; then succeed."""
    if self.request.id.endswith(".1"):
        raise ApplicationError(f"{card} is busy", details={"card": card})
    running = step.current()
    assert running is not None
    return f"charged {running.headers['card']}"


@app.task
def receipt(charged: str) -> list[str]:
    """Return something large."""
    return [charged] * _REPEATS


@orc.workflow
async def pay(card: str) -> str:
    """Charge a card, hear a word, print a receipt."""
    workflow.publish({"card": card})
    charged = await workflow.step(charge, card, retry=Retry(attempts=3, factor=1.0))
    word = await workflow.signal("word")
    lines = await workflow.step(receipt, charged)
    return f"{lines[0]} {word}"
