"""The scenes: each places an order, does something to it, and checks what became of it."""

from orchestrator.app import Orchestrator
from sagas.app import app
from sagas.demo import claims
from sagas.demo.tour import STOCK, Tour, since
from sagas.order import Status
from tasks.faults import Mode, set_switch

#: Longer than the tour waits for anything, so that a body that hangs is surely still in it.
HANG_SECONDS = 50.0
#: Time to kill an orchestrator in; within the six seconds that its leases outlive it.
PAUSE_SECONDS = 5.0


def small_order(tour: Tour) -> None:
    """An order goes through."""
    say = tour.narrator
    say.heading("1  A small order goes through")
    order = tour.place("small", 120)
    tour.wait_for_status(order, Status.SHIPPED)
    say.tell("the parcel arrives: signal 'delivered' (without it, it waits seven days)")
    tour.deliver(order)
    say.check_by(claims.ended_as, order, Status.COMPLETED)
    say.check_by(claims.paid, tour.shop, order, 120_00)
    say.check_by(claims.on_shelf, tour.shop, tour.article, STOCK - 1)


def large_order(tour: Tour) -> None:
    """An order above 5000 waits for a person."""
    say = tour.narrator
    say.heading("2  One above 5000 waits for a person, and is approved")
    order = tour.place("large", 9000)
    tour.wait_for_status(order, Status.AWAITING_APPROVAL)
    say.check_by(claims.paid, tour.shop, order, 9000_00)
    say.check_by(claims.parcels, tour.shop, order, 0)
    tour.knock(order, "approve", '{"approved": true, "by": "ana"}')
    tour.wait_for_status(order, Status.SHIPPED)
    tour.deliver(order)
    say.check_by(claims.ended_as, order, Status.COMPLETED)
    say.check_by(claims.approved_by, order, "ana")
    say.check_by(claims.parcels, tour.shop, order, 1)


def failed_shipment(tour: Tour) -> None:
    """An order that cannot be shipped is undone."""
    say = tour.narrator
    say.heading("3  One that cannot be shipped is undone")
    order_id = tour.id_of("unshippable")
    before = tour.shop.on_hand(tour.article)
    say.tell(f"before: {before} on the shelf, {tour.shop.money(order_id)}")
    set_switch("ship", Mode.REFUSE, order_id=order_id, remaining=None)
    order = tour.place("unshippable", 250)
    tour.wait_for_end(order)
    say.tell(f"after: {tour.shop.on_hand(tour.article)} on the shelf, {tour.shop.money(order_id)}")
    say.check_by(claims.ended_as, order, Status.FAILED)
    say.check_by(claims.undone_in_order, order, ["refund", "release"])
    say.check_by(claims.paid_back, tour.shop, order, 250_00)
    say.check_by(claims.on_shelf, tour.shop, tour.article, before)


def killed_worker(tour: Tour) -> None:
    """A worker is killed inside a step."""
    say = tour.narrator
    say.heading("4  The worker is killed in the middle of a step")
    order_id = tour.id_of("worker-killed")
    set_switch("charge", Mode.HANG, order_id=order_id, seconds=HANG_SECONDS)
    order = tour.place("worker-killed", 330)
    tour.wait_for_body("charge", order)
    code = tour.stage.kill(tour.worker)
    say.tell(f"inside charge: SIGKILL to worker {tour.worker.pid} and its children ({code})")
    tour.worker = tour.stage.start_worker()
    say.tell(f"another worker starts, {tour.worker.pid}; the dead one's claim lasts 6 s")
    tour.wait_for_status(order, Status.SHIPPED)
    tour.deliver(order)
    say.check_by(claims.ended_as, order, Status.COMPLETED)
    say.check_by(claims.attempts_of, order, "charge", ["1 lost", "2 completed"])
    say.check_by(claims.effect_once, tour.shop, order, "charge")
    say.check_by(claims.paid, tour.shop, order, 330_00)


def killed_orchestrator(tour: Tour) -> None:
    """The orchestrator is killed while a saga is being undone."""
    say = tour.narrator
    say.heading("5  The orchestrator is killed in the middle of a saga")
    order_id = tour.id_of("orchestrator-killed")
    before = tour.shop.on_hand(tour.article)
    set_switch("ship", Mode.REFUSE, order_id=order_id, remaining=None)
    set_switch("refund", Mode.HANG, order_id=order_id, seconds=PAUSE_SECONDS)
    order = tour.place("orchestrator-killed", 410)
    tour.wait_for_status(order, Status.COMPENSATING)
    tour.wait_for_body("refund", order)
    code = tour.stage.kill(tour.orchestrator)
    killed_at_ms, seen = Orchestrator.of(app).store.now_ms(), order.describe().seq
    shelf, money = tour.shop.on_hand(tour.article), tour.shop.money(order_id)
    say.tell(f"half undone: SIGKILL to orchestrator {tour.orchestrator.pid} ({code})")
    say.tell(f"at that moment: {shelf} on the shelf, {money}")
    tour.orchestrator = tour.stage.start_orchestrator()
    say.tell(
        f"another orchestrator starts, {tour.orchestrator.pid}; the dead one's leases last 6 s"
    )
    tour.wait_for_end(order)
    first = next(since(order.history(), killed_at_ms))
    say.tell(f"it took over {(first.event.at_ms - killed_at_ms) / 1000:.1f} s after the kill")
    say.check_by(claims.ended_as, order, Status.FAILED)
    say.check_by(claims.compensation_spans, order.history(), seen)
    say.check_by(claims.undone_in_order, order, ["refund", "release"])
    say.check_by(claims.paid_back, tour.shop, order, 410_00)
    say.check_by(claims.on_shelf, tour.shop, tour.article, before)


SCENES = (small_order, large_order, failed_shipment, killed_worker, killed_orchestrator)
