"""What people may send to an order on its way, and what they can read of it at any time."""

from decimal import Decimal
from enum import Enum

from pydantic import BaseModel, ConfigDict, Field


class Approval(BaseModel):
    """Signal ``approve``: a person's decision about a large order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    approved: bool
    by: str = Field(min_length=1)
    reason: str = ""


class CancelOrder(BaseModel):
    """Signal ``cancel``: somebody no longer wants the order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: str = "no reason given"
    by: str = "customer"


class Delivered(BaseModel):
    """Signal ``delivered``: the parcel has arrived."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    signed_by: str | None = None


class Status(Enum):
    """Where an order is."""

    PENDING = "pending"
    INVENTORY_RESERVED = "inventory_reserved"
    PAYMENT_COMPLETED = "payment_completed"
    AWAITING_APPROVAL = "awaiting_approval"
    APPROVED = "approved"
    SHIPPED = "shipped"
    COMPENSATING = "compensating"  #: what was done is being undone, newest first
    COMPLETED = "completed"
    REJECTED = "rejected"  #: a person said no, or nobody decided in time; all undone
    CANCELLED = "cancelled"  #: all undone
    FAILED = "failed"  #: a step could not be done; all others undone


class OrderState(BaseModel):
    """An order as its customer sees it.  Also the order's result."""

    order_id: str
    total: Decimal
    status: Status = Status.PENDING
    paid_cents: int = 0
    refunded_cents: int = 0
    payment_id: str | None = None
    tracking: str | None = None
    approved_by: str | None = None
    signed_by: str | None = None
    #: Why the order ended as it did.
    reason: str | None = None
    #: What did not work out and changed nothing: news that could not be sent, a late cancellation.
    notes: list[str] = Field(default_factory=list)
