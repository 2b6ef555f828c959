"""Promise: a damaged checkpoint costs time, never the result, and is told; so is a bad plan."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.training import layout
from tasks.training_store import open_checkpoints
from tests.sagas.training_driver import Lab, Weights


def newest(lab: Lab, name: str, *, back: int = 0, id: str = "t") -> Path:
    """Return the file of a part, or "manifest", of the newest checkpoint or one before."""
    digest = lab.state(id).checkpoints[-1 - back].manifest_sha256
    store = open_checkpoints(f"{id}.1")
    found = next(one for one in store.list_manifests()[0] if one.manifest_sha256 == digest)
    if name == "manifest":
        return lab.directory / found.key
    return lab.directory / layout.blob(store.run, found.manifest.blobs[name].sha256)


def damage(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.chmod(0o644)
    path.write_bytes(change(path.read_bytes()))


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


#: What befalls the newest checkpoint, as its files.
DAMAGE: dict[str, Callable[[Lab], object]] = {
    "truncated": lambda lab: damage(newest(lab, "model"), lambda data: data[:-7]),
    "a flipped bit": lambda lab: damage(newest(lab, "optimizer"), flipped),
    "a blob missing": lambda lab: newest(lab, "model").unlink(),
    "a swapped blob": lambda lab: os.replace(newest(lab, "model", back=1), newest(lab, "model")),
    "a manifest missing": lambda lab: newest(lab, "manifest").unlink(),
    "a manifest of another run": lambda lab: damage(
        newest(lab, "manifest"), lambda data: newest(lab, "manifest", id="other").read_bytes()
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_the_newest_checkpoint_is_damaged(lab: Lab, uninterrupted: Weights, what: str) -> None:
    lab.start("other", seed=8)
    lab.finish("other")
    lab.start()
    lab.until(3)
    DAMAGE[what](lab)
    lab.forget_memory()
    lab.finish()
    assert lab.weights() == uninterrupted
    rejected = lab.state().rejected
    assert rejected, "people are told"
    assert "epoch 3" in rejected[0]
    told = [chunk.rejected for chunk in lab.chunks if chunk.rejected]
    assert told, "history too"
    assert lab.state().bit_identical


def test_none_is_left_and_it_begins_at_the_seed_and_says_so(
    lab: Lab, uninterrupted: Weights
) -> None:
    lab.start()
    lab.until(4)
    for path in [*lab.directory.rglob("blobs/**/*")]:
        if path.is_file():
            path.unlink()
    lab.forget_memory()
    lab.finish()
    assert lab.weights() == uninterrupted
    assert len(lab.state().rejected) == 5, "one for each, that of the beginning included"
    assert next(c for c in lab.chunks if c.rejected).repeated_steps > 0


BAD_PLANS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown dataset": ({"dataset": "cats"}, "cats.*digits"),
    "an unknown trainer": ({"trainer": "perceptron"}, "perceptron.*mlp"),
    "an unknown hyperparameter": ({"hparams": {"speed": 1}}, "speed.*lr"),
    "a value that cannot be": ({"hparams": {"lr": -0.5}}, "lr.*-0.5"),
    "a value of the wrong type": ({"hparams": {"lr": "fast"}}, "lr"),
}


@pytest.mark.parametrize("what", BAD_PLANS)
def test_a_bad_plan_fails_at_once_with_the_reason(lab: Lab, what: str) -> None:
    plan, words = BAD_PLANS[what]
    lab.start(**plan)
    lab.settle()
    assert re.search(words, lab.failure()), lab.failure()
    assert lab.chunks == []
    assert not [*lab.directory.rglob("ckpt/**/*.json")], "nothing is left behind"
