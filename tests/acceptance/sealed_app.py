"""An app whose payloads are encrypted, under the master keys that the environment names."""

import os

from celery import Celery

from orchestrator import ApplicationError, EncryptionCodec, Keyring, Orchestrator, Retry, workflow

app = Celery("sealed", broker=os.environ["CELERY_BROKER_URL"])
orc = Orchestrator(app, payload_codec=EncryptionCodec(Keyring.from_environment()))
app.conf.worker_send_task_events = True
app.conf.task_send_sent_event = True

#: A result beyond what a history keeps inline.
_REPEATS = 20_000


@app.task(bind=True)
def charge(self, card: str) -> str:  # type: ignore[no-untyped-def] # noqa: ANN001
    """Fail once, with the card in the text; then succeed."""
    if self.request.id.endswith(".1"):
        raise ApplicationError(f"{card} is busy", details={"card": card})
    return f"charged {card}"


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
