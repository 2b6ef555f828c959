"""What commands mean for the run's row, where listings and readers find it."""

from orchestrator.core import events as e
from orchestrator.core.ledger import Ledger
from orchestrator.core.values import Json, canonical


def fields_of(command: e.Command, ledger: Ledger) -> dict[str, str]:
    """Return the fields of the row that a command changes, once the ledger has taken it."""
    match command:
        case e.SearchAttributesUpserted():
            return {"attributes": canonical(ledger.search_attributes).decode()}
        case e.MemoUpserted():
            return {"memo": canonical(ledger.memo).decode()}
        case e.CurrentDetailsSet():
            return {"current_details": canonical(ledger.current_details).decode()}
        case _:
            return {}


def fields_of_copy(ledger: Ledger) -> dict[str, str]:
    """Return what a history that was copied says to the run's readers."""
    assert ledger.started is not None, "what is copied begins with RunStarted"
    said: dict[str, Json] = {"attributes": ledger.search_attributes, "memo": ledger.memo}
    if ledger.current_details:
        said["current_details"] = ledger.current_details
    return fields_of_started(ledger.started) | {
        name: canonical(value).decode() for name, value in said.items()
    }


def fields_of_started(event: e.RunStarted) -> dict[str, str]:
    """Return what the run's start says to its readers, once more: the store may not have seen it.

    Where payloads are sealed, the start's own row has none of it.
    """
    said: dict[str, Json] = {
        "memo": event.memo,
        "summary": event.summary,
        "details": event.details,
    }
    return {name: canonical(value).decode() for name, value in said.items() if value}
