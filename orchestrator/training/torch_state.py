"""PyTorch's state dictionaries as tensors and JSON, and back; `torch.save` is never used.

TS1  Tensors keep dtype and shape; bfloat16, which numpy lacks, travels as the 16 bits it has.
TS2  Tied weights are saved once, with a table of who shares whom, and tied again by the model
     that is loaded into: a model that ties others is refused.
TS3  What is neither a tensor nor JSON is refused by its name.
"""

from collections.abc import Mapping
from typing import Any

import torch

from orchestrator.core.values import Json
from orchestrator.training.errors import TrainerMisbehaved
from orchestrator.training.trainer import Array


def to_array(tensor: torch.Tensor) -> tuple[Array, str]:
    """Return a tensor's values as an array that shares its memory, and its dtype's name (TS1)."""
    found = tensor.detach()
    if found.device.type != "cpu":
        found = found.cpu()
    dtype = str(found.dtype).removeprefix("torch.")
    if found.dtype is torch.bfloat16:
        found = found.view(torch.uint16)
    array: Array = found.contiguous().numpy()
    return array, dtype


def to_tensor(array: Array, dtype: str) -> torch.Tensor:
    """Return what `to_array` was given, as a copy."""
    found = torch.from_numpy(array.copy())
    return found.view(torch.bfloat16) if dtype == "bfloat16" else found


def flatten(values: Mapping[str, Any], what: str) -> tuple[dict[str, Array], dict[str, Json]]:
    """Return the tensors of a flat mapping, and its other values, dtypes and aliases as JSON.

    Raises:
        TrainerMisbehaved: A value is neither a tensor nor JSON (TS3).
    """
    tensors: dict[str, Array] = {}
    owners: dict[tuple[int, tuple[int, ...], tuple[int, ...]], str] = {}
    aliases: dict[str, Json] = {}
    dtypes: dict[str, Json] = {}
    rest: dict[str, Json] = {}
    for name, value in values.items():
        if not isinstance(value, torch.Tensor):
            rest[name] = plain(value, f"{what} {name}")
            continue
        place = (value.data_ptr(), tuple(value.shape), tuple(value.stride()))
        owner = owners.setdefault(place, name) if value.numel() else name
        if owner != name:
            aliases[name] = owner
            continue
        tensors[name], dtypes[name] = to_array(value)
    return tensors, {"dtypes": dtypes, "aliases": aliases, "rest": rest}


def restored(tensors: Mapping[str, Array], meta: Json) -> dict[str, Any]:
    """Return the mapping that `flatten` was given; its tensors are copies."""
    assert isinstance(meta, dict), type(meta)
    dtypes, aliases, rest = meta["dtypes"], meta["aliases"], meta["rest"]
    assert isinstance(dtypes, dict), dtypes
    assert isinstance(aliases, dict), aliases
    assert isinstance(rest, dict), rest
    found: dict[str, Any] = {
        name: to_tensor(tensors[name], str(dtype)) for name, dtype in dtypes.items()
    }
    found |= {name: found[str(owner)] for name, owner in aliases.items()}
    return {**found, **rest}


def plain(value: Any, what: str) -> Json:
    """Return `value` if it is JSON, tuples as lists.

    Raises:
        TrainerMisbehaved: It is not (TS3).
    """
    match value:
        case None | bool() | int() | float() | str():
            return value
        case list() | tuple():
            return [plain(part, what) for part in value]
        case dict():
            return {str(name): plain(part, what) for name, part in value.items()}
        case _:
            kind = type(value).__name__
            raise TrainerMisbehaved(what, f"a {kind}", "tensors and JSON can be saved")
