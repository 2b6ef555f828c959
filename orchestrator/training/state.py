"""Everything a trainer needs to go on: tensors in named groups, and JSON.

ST1  The digest covers every bit that training may depend on: names, types, shapes, values, memory
     order (C or Fortran), and the JSON with its floats.  Equal digests train on equally.
ST2  A group is a unit of storage: one that did not change costs nothing to save again, and one can
     be read without the others.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from orchestrator.core.values import Json, digest
from orchestrator.training import floats, tensors
from orchestrator.training.errors import TrainerMisbehaved
from orchestrator.training.tensors import Data

#: Under this name the JSON is encoded; no group can have it.
META = "meta"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class State:
    """Tensors by group ("model", "optimizer", "extra") and name, and JSON beside them.

    An array that is contiguous in neither order counts as one in C order, and is restored so.
    """

    groups: Mapping[str, Mapping[str, NDArray[Any]]]
    meta: Mapping[str, Json] = field(default_factory=dict)

    def digest(self) -> str:
        """Return the SHA-256 that stands for all of it, in hex (ST1).

        Raises:
            TrainerMisbehaved: As `encode`.
        """
        encoded = self.encode()
        return digest_of({name: hashlib.sha256(data).hexdigest() for name, data in encoded.items()})

    def copy(self) -> "State":
        """Return a copy that shares nothing with this one."""
        return State.decode(self.encode())

    def encode(self) -> dict[str, Data]:
        """Return each group, and under `META` the JSON, as bytes that share nothing with it.

        Raises:
            TrainerMisbehaved: A type that cannot be saved.
        """
        try:
            if META in self.groups:
                raise ValueError(f"no group can be named {META!r}")
            encoded: dict[str, Data] = {
                name: tensors.encode(group) for name, group in sorted(self.groups.items())
            }
            return {**encoded, META: floats.encode(dict(self.meta))}
        except (TypeError, ValueError) as error:
            raise TrainerMisbehaved(
                "a trainer's state", str(error), "tensors of numbers and JSON can be saved"
            ) from error

    @staticmethod
    def decode(encoded: Mapping[str, Data]) -> "State":
        """Return what `encode` was given; its tensors are writable copies.

        Raises:
            ValueError: Not such bytes; the text names the group.
        """
        groups: dict[str, dict[str, NDArray[Any]]] = {}
        meta: Json = None
        for name, data in encoded.items():
            try:
                if name == META:
                    meta = floats.decode(bytes(data))
                else:
                    groups[name] = tensors.decode(data)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        if not isinstance(meta, dict):
            raise ValueError(f"{META}: found {type(meta).__name__}, wanted an object")
        return State(groups=groups, meta=meta)


def digest_of(blobs: Mapping[str, str]) -> str:
    """Return the digest of a state whose encoded parts have these SHA-256 digests."""
    return digest(dict(blobs))
