"""A scikit-learn estimator as tensors and JSON, and back, without a format that runs code.

Everything in ``vars(estimator)`` counts but its constructor's parameters, which are
hyperparameters: public ``…_`` attributes alone do not resume identically for half of the
estimators, which keep optimizers, random states and averages under private names.

SK1  Restored is what was: type of every scalar, memory order of every array, and which names
     share one array (averaged SGD and its ``coef_``).
SK2  Only objects of the classes in `REBUILT` are made; anything else is refused by its name.
SK3  `settle` leaves no array that is neither C- nor Fortran-contiguous.  Such a view could not be
     restored with its strides, and BLAS may round another layout otherwise.
"""

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.core.values import Json
from orchestrator.training.errors import TrainerMisbehaved
from orchestrator.training.trainer import Array

#: Helpers inside estimators that are made again from their attributes.
REBUILT = (
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.preprocessing._label.LabelBinarizer",
)
#: Compiled objects that the estimator makes anew at every call.
LEFT_OUT = ("_loss_function_",)


def settle(estimator: Any) -> None:
    """Give every array of `estimator` a contiguous layout (SK3)."""
    for name, value in vars(estimator).items():
        if isinstance(value, np.ndarray) and not value.flags.forc:
            setattr(estimator, name, value.copy(order="K"))


def flatten(estimator: Any, leave_out: Iterable[str]) -> tuple[dict[str, Array], Json]:
    """Return the arrays of `estimator` by name, and all else with references to them.

    Raises:
        TrainerMisbehaved: It holds something that cannot be restored (SK2).
    """
    return _Flattening().whole(estimator, {*leave_out, *LEFT_OUT})


def restore(estimator: Any, tensors: Mapping[str, Array], meta: Json) -> None:
    """Set what `flatten` took from another object on a fresh `estimator`; the arrays are copies."""
    copies = {name: tensor.copy(order="K") for name, tensor in tensors.items()}
    assert isinstance(meta, dict), type(meta)
    for name, value in meta.items():
        setattr(estimator, name, _rebuilt(value, copies))


class _Flattening:
    """One pass over an estimator; remembers arrays by identity, so that aliases stay aliases."""

    def __init__(self) -> None:
        self.tensors: dict[str, Array] = {}
        self._names: dict[int, str] = {}

    def whole(self, estimator: Any, leave_out: set[str]) -> tuple[dict[str, Array], Json]:
        attributes = sorted(vars(estimator).items())
        meta = {name: self._of(v, name) for name, v in attributes if name not in leave_out}
        return self.tensors, meta

    def _of(self, value: Any, path: str) -> Json:
        match value:
            case None | bool() | str():
                return value
            case np.ndarray():
                return {"array": self._array(value, path)}
            case np.generic():
                return {"scalar": self._array(np.asarray(value), path)}
            case int() | float():
                return value
            case list() | tuple():
                parts: list[Json] = [self._of(v, f"{path}.{i}") for i, v in enumerate(value)]
                return {"tuple" if isinstance(value, tuple) else "list": parts}
            case np.random.RandomState():
                return self._random_state(value, path)
            case _:
                return self._object(value, path)

    def _array(self, array: Array, path: str) -> str:
        if array.dtype.kind not in "biuf":
            raise TrainerMisbehaved(
                f"array {path} of the estimator", f"dtype {array.dtype}", "numbers can be saved"
            )
        name = self._names.setdefault(id(array), path)
        self.tensors[name] = array
        return name

    def _random_state(self, state: np.random.RandomState, path: str) -> Json:
        kind, keys, position, has_gauss, cached = state.get_state(legacy=True)
        assert kind == "MT19937", kind
        self.tensors[f"{path}.keys"] = np.asarray(keys)
        rest: list[Json] = [int(position), int(has_gauss), float(cached)]
        return {"random": f"{path}.keys", "rest": rest}

    def _object(self, value: Any, path: str) -> Json:
        name = f"{type(value).__module__}.{type(value).__qualname__}"
        if name not in REBUILT:
            raise TrainerMisbehaved(
                f"attribute {path} of the estimator", name, f"can be saved: {', '.join(REBUILT)}"
            )
        inside = {key: self._of(v, f"{path}.{key}") for key, v in sorted(vars(value).items())}
        return {"object": name, "attributes": inside}


def _rebuilt(value: Json, tensors: Mapping[str, Array]) -> Any:
    if not isinstance(value, dict):
        return value
    match value:
        case {"array": str(name)}:
            return tensors[name]
        case {"scalar": str(name)}:
            return tensors[name][()]
        case {"list": list(parts)}:
            return [_rebuilt(part, tensors) for part in parts]
        case {"tuple": list(parts)}:
            return tuple(_rebuilt(part, tensors) for part in parts)
        case {"random": str(name), "rest": [int(position), int(has_gauss), float(cached)]}:
            state = np.random.RandomState()
            keys: npt.NDArray[np.uint32] = tensors[name]
            state.set_state(("MT19937", keys, position, has_gauss, cached))
            return state
        case {"object": str(name), "attributes": dict(attributes)} if name in REBUILT:
            module, _, kind = name.rpartition(".")
            found = object.__new__(getattr(import_module(module), kind))
            for key, part in attributes.items():
                setattr(found, key, _rebuilt(part, tensors))
            return found
        case _:
            raise TrainerMisbehaved(
                "part of a checkpoint", repr(value)[:80], "what this version writes"
            )
