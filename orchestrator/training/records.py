"""What the log has of a training, read back: results, references and orders as they were written.

Everything here is pure; the log may be replayed on a machine without a store.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from orchestrator.core.values import Json
from orchestrator.training.errors import BadRecord
from orchestrator.training.trainer import Cursor
from orchestrator.training.work import CheckpointRef, ChunkResult, Order, Rejected, ref_from_json


def plain(value: Cursor | CheckpointRef | Order) -> dict[str, Json]:
    """Return `value` as the JSON object that stands for it in a work or a result."""
    return asdict(value)


def cursor_from_json(value: Mapping[str, Any]) -> Cursor:
    """Return the position that `plain` wrote.

    Raises:
        BadRecord: Not such JSON.
    """
    try:
        return Cursor(epoch=value["epoch"], step=value["step"])
    except (KeyError, TypeError) as error:
        raise BadRecord("a position", repr(value)[:60], "an object of epoch and step") from error


def order_from_json(value: Mapping[str, Any]) -> Order:
    """Return the order that `plain` wrote.

    Raises:
        BadRecord: Not such JSON.
    """
    try:
        cursor = cursor_from_json(value["cursor"])
        return Order(cursor=cursor, seed=value["seed"], hparams=value["hparams"])
    except (KeyError, TypeError) as error:
        wanted = "an object of cursor, seed and hparams"
        raise BadRecord("an order", repr(value)[:60], wanted) from error


def result_from_json(value: Any) -> ChunkResult:
    """Return the result that `ChunkResult.as_json` wrote; what a newer version added is left out.

    Raises:
        BadRecord: Not such JSON.
    """
    try:
        given = {part.name: value[part.name] for part in fields(ChunkResult) if part.name in value}
        given["stopped_at"] = cursor_from_json(given["stopped_at"])
        if given["checkpoint"] is not None:
            given["checkpoint"] = ref_from_json(given["checkpoint"])
        given["saved"] = tuple(ref_from_json(one) for one in given.get("saved", ()))
        given["environment_differs"] = tuple(given.get("environment_differs", ()))
        given["rejected"] = tuple(
            Rejected(**{**one, "ref": ref_from_json(one["ref"])})
            for one in given.get("rejected", ())
        )
        return ChunkResult(**given)
    except (KeyError, TypeError) as error:
        raise BadRecord("what a chunk came to", repr(value)[:60], "what as_json writes") from error
