"""What commands mean for the run's row, where listings and readers find it."""

from orchestrator.core import events as e
from orchestrator.core.ledger import Ledger
from orchestrator.core.values import canonical


def fields_of(command: e.Command, ledger: Ledger) -> dict[str, str]:
    """Return the fields of the row that a command changes, once the ledger has taken it."""
    match command:
        case e.SearchAttributesUpserted():
            return {"attributes": canonical(ledger.search_attributes).decode()}
        case e.MemoUpserted():
            return {"memo": canonical(ledger.memo).decode()}
        case e.CurrentDetailsSet():
            return {"current_details": ledger.current_details}
        case _:
            return {}
