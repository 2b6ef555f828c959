"""The histories of the applications: orders, and trainings where their libraries are installed."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from orchestrator.store.ports import Kind
from sagas.app import orc
from tasks.app import TRAINS
from tests.engine.world import World
from tests.histories.record import DAY_MS, break_, pass_time, recording
from tests.sagas.driver import RESULTS


def order_world(total: str = "120", **tasks: Any) -> World:
    """Return a world with an order under way; `tasks` answer otherwise than by simply working."""
    world = World(orc.registry["order"])
    for name, result in RESULTS.items():
        world.tasks[f"tasks.{name}"] = lambda *_args, _result=result, **_kwargs: _result
    for name, body in tasks.items():
        (full,) = [known for known in RESULTS if known.endswith(f".{name}")]
        world.tasks[f"tasks.{full}"] = body
    world.start("order", {"id": "order-1", "total": total})
    world.settle()
    return world


def say(world: World, name: str, **payload: Any) -> World:
    """Send a signal and let everything follow that follows."""
    world.signal(name, payload)
    world.settle()
    return world


@recording("order-completed")
def completed() -> World:
    return say(order_world(), "delivered", signed_by="bo")


@recording("order-approved")
def approved() -> World:
    world = say(order_world("9000"), "approve", approved=True, by="ana")
    return say(world, "delivered", signed_by="bo")


@recording("order-rejected")
def rejected() -> World:
    return say(order_world("9000"), "approve", approved=False, by="ana", reason="too much")


@recording("order-nobody-approved")
def nobody_approved() -> World:
    world = order_world("9000")
    pass_time(world, DAY_MS)
    return world


@recording("order-nobody-reported-delivery")
def nobody_reported() -> World:
    world = order_world()
    pass_time(world, 7 * DAY_MS)
    return world


@recording("order-compensated")
def compensated() -> World:
    world = order_world(ship=break_)
    pass_time(world, 7 * DAY_MS)
    return world


@recording("order-cancelled-by-signal")
def cancelled_by_signal() -> World:
    return say(order_world(), "cancel", by="ana", reason="changed her mind")


@recording("order-cancelled")
def cancelled() -> World:
    world = order_world("9000")
    world.post(Kind.CANCEL, {"reason": "maintenance", "request_id": "c1"})
    world.settle()
    return world


@recording("order-terminated")
def terminated() -> World:
    world = order_world()
    world.post(Kind.TERMINATE, {"reason": "enough", "request_id": "t1"})
    world.settle()
    return world


@recording("order-waiting")
def waiting() -> World:
    return order_world("9000")


if TRAINS:
    from tests.sagas.training_driver import SMALL, Lab

    def lab() -> Lab:
        """Return a laboratory whose store lasts as long as this process."""
        folder = Path(tempfile.mkdtemp(prefix="recording-"))
        atexit.register(shutil.rmtree, folder)
        os.environ["TRAINING_STORE"] = str(folder)
        found = Lab(folder)
        found.world.deploy(*(orc.registry[f"training-{name}"] for name in ("stages", "exam")))
        return found

    @recording("training-completed", "t")
    def trained() -> World:
        found = lab()
        found.start(epochs=3)
        found.finish()
        return found.world

    @recording("training-ordered-about", "t")
    def ordered_about() -> World:
        found = lab()
        found.start(epochs=5)
        found.until(1)
        found.signal("decide", decision="adjust", hparams={"lr": 0.01}, by="ana")
        found.until(2)
        found.signal("pause", by="ana", reason="lunch")
        found.settle()
        found.signal("resume")
        found.until(3)
        to = next(one for one in found.state().checkpoints if one.epoch == 1)
        found.signal("rollback", to=to.manifest_sha256[:8])
        found.settle()
        return found.world

    @recording("training-forked", "t")
    def forked() -> World:
        found = lab()
        found.start(epochs=3)
        found.until(1)
        found.signal("fork", seeds=[11], hparams={"lr": 0.01})
        found.settle()
        return found.world

    @recording("training-stopped", "t")
    def stopped() -> World:
        found = lab()
        found.start(epochs=4)
        found.until(2)
        found.signal("decide", decision="stop")
        found.settle()
        return found.world

    @recording("training-reviewed", "t")
    def reviewed() -> World:
        """A typo ends a review, a branch has none where another had, and orders follow a stop."""
        found = lab()
        found.start(epochs=8, review={"every_epochs": 2, "timeout_s": 600})
        found.settle()
        found.signal("decide", decision="adjust", hparams={"lr": -1})
        found.settle()
        to = next(one for one in found.state().checkpoints if one.epoch == 3)
        found.signal("rollback", to=to.manifest_sha256[:8])
        found.until(5)
        found.signal("fork", seeds=[11])
        found.signal("decide", decision="stop")
        found.signal("reseed", seed=99)
        found.settle()
        return found.world

    @recording("training-cancelled", "t")
    def training_cancelled() -> World:
        found = lab()
        found.start(epochs=4)
        found.until(1)
        found.world.post(Kind.CANCEL, {"reason": "enough", "request_id": "c1"}, id="t")
        found.settle()
        return found.world

    @recording("training-stages", "s")
    def stages() -> World:
        found = lab()
        plan: Any = {
            "pretraining": {
                "trainer": "autoencoder",
                "epochs": 2,
                "hparams": {"hidden": [16], "batch_size": 128},
            },
            "fine_tuning": {"epochs": 2, "hparams": SMALL},
            "exam": {"at_least": {"accuracy": 1.01}, "model": "digits"},
        }
        found.world.start("training-stages", plan, id="s")
        found.settle()
        found.world.signal("retry", {"by": "ana", "at_least": {"accuracy": 0.1}}, id="s")
        found.settle()
        return found.world
