"""What the shop's tasks take and give, as pydantic models.

Money is `Decimal` where people write it, in units of currency, and integer cents from there on.
"""

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Id = Annotated[str, Field(min_length=1, max_length=200)]
#: At most ten billion units, so that cents fit a 64-bit column with room for sums.
Amount = Annotated[Decimal, Field(gt=0, max_digits=12, decimal_places=2)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OrderLine(_Value):
    """So many of one article."""

    sku: Id
    quantity: int = Field(default=1, ge=1, le=1_000_000)


class Order(_Value):
    """What a customer ordered.  Unless told otherwise: one book."""

    id: Id
    total: Amount
    customer: str = "customer@example.org"
    lines: tuple[OrderLine, ...] = Field(default=(OrderLine(sku="book"),), min_length=1)

    @property
    def total_cents(self) -> int:
        """The total in cents; exact, as a total has two decimal places at most."""
        return int(self.total * 100)


class Reservation(_Value):
    """Stock put aside for an order."""

    id: str


class Payment(_Value):
    """Money taken for an order."""

    id: str
    amount_cents: int


class Shipment(_Value):
    """A parcel on its way."""

    id: str
    tracking: str


class Notification(_Value):
    """A mail that was sent."""

    id: str


class Undone(_Value):
    """What a compensation says: whether there was anything to undo."""

    undone: bool
