"""A multi-layer perceptron over one flat vector of parameters: forward, loss, gradient, Adam.

Weights and biases are views into one vector, and so are their gradients and Adam's moments: an
update is a dozen calls over the vector, whatever the number of layers.  Arithmetic is float32.

N1  The same calls in the same order on the same bytes: nothing here depends on what happened
    before but through `theta`, `first`, `second` and `updates`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """The settings of one Adam update; `weight_decay` is decoupled from the gradient."""

    lr: float
    beta1: float
    beta2: float
    weight_decay: float
    epsilon: float = 1e-8


class Network:
    """Layers of the given sizes, all zero at first; ReLU between them, the last one linear."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = tuple(sizes)
        shapes = list(zip(self.sizes, self.sizes[1:], strict=False))
        count = sum(fan_in * fan_out + fan_out for fan_in, fan_out in shapes)
        self.theta = np.zeros(count, dtype=np.float32)
        self.gradient = np.zeros(count, dtype=np.float32)
        self.first = np.zeros(count, dtype=np.float32)
        self.second = np.zeros(count, dtype=np.float32)
        self.updates = 0
        self._layers = self._layers_in(self.theta)
        self._slopes = self._layers_in(self.gradient)

    def named(self, vector: Floats) -> dict[str, Floats]:
        """Return views into one of the vectors, as "w0", "b0", "w1", … ."""
        layers = enumerate(self._layers_in(vector))
        return {
            name: part
            for index, (weights, bias) in layers
            for name, part in ((f"w{index}", weights), (f"b{index}", bias))
        }

    def draw(self, rng: np.random.Generator) -> None:
        """Draw the weights (He's initialisation); biases and Adam's moments are zero."""
        for weights, bias in self._layers:
            scale = np.float32(np.sqrt(2.0 / len(weights)))
            weights[:] = rng.standard_normal(weights.shape, dtype=np.float32) * scale
            bias[:] = 0
        for vector in (self.first, self.second):
            vector[:] = 0
        self.updates = 0

    def forward(self, x: Floats, masks: Sequence[Floats] = ()) -> list[Floats]:
        """Return what enters each layer, and last what leaves the last one.

        `masks` are multiplied into the hidden layers in order; none means nothing is dropped.
        """
        passed = [x]
        for index, (weights, bias) in enumerate(self._layers):
            x = x @ weights
            x += bias
            if index < len(self._layers) - 1:
                np.maximum(x, 0, out=x)
                if masks:
                    x *= masks[index]
            passed.append(x)
        return passed

    def backward(self, passed: Sequence[Floats], delta: Floats, masks: Sequence[Floats]) -> None:
        """Fill `gradient` from the loss's gradient `delta` by the last layer's output."""
        for index in range(len(self._layers) - 1, -1, -1):
            weights, bias = self._slopes[index]
            np.matmul(passed[index].T, delta, out=weights)
            delta.sum(axis=0, out=bias)
            if index:
                # Entering a hidden layer's successor: positive exactly where ReLU let through
                # and nothing was dropped.
                delta = delta @ self._layers[index][0].T
                delta *= passed[index] > 0
                if masks:
                    delta *= masks[index - 1]

    def update(self, by: Update) -> None:
        """Move `theta` against `gradient` by one step of Adam."""
        self.updates += 1
        slope, first, second = self.gradient, self.first, self.second
        first *= np.float32(by.beta1)
        first += np.float32(1 - by.beta1) * slope
        second *= np.float32(by.beta2)
        slope *= slope
        slope *= np.float32(1 - by.beta2)
        second += slope
        unbiased = np.sqrt(second / np.float32(1 - by.beta2**self.updates))
        unbiased += np.float32(by.epsilon)
        np.divide(first, unbiased, out=unbiased)
        unbiased *= np.float32(by.lr / (1 - by.beta1**self.updates))
        if by.weight_decay:
            self.theta *= np.float32(1 - by.lr * by.weight_decay)
        self.theta -= unbiased

    def _layers_in(self, vector: Floats) -> list[tuple[Floats, Floats]]:
        return list(self._parts_of(vector))

    def _parts_of(self, vector: Floats) -> Iterator[tuple[Floats, Floats]]:
        start = 0
        for fan_in, fan_out in zip(self.sizes, self.sizes[1:], strict=False):
            middle, end = start + fan_in * fan_out, start + fan_in * fan_out + fan_out
            yield vector[start:middle].reshape(fan_in, fan_out), vector[middle:end]
            start = end


def cross_entropy(logits: Floats, labels: npt.NDArray[np.int64]) -> tuple[float, Floats]:
    """Return the mean loss of the classes, and its gradient by the logits."""
    rows = np.arange(len(labels))
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponents = np.exp(shifted)
    sums = exponents.sum(axis=1, keepdims=True)
    loss = float((np.log(sums[:, 0]) - shifted[rows, labels]).mean())
    delta: Floats = exponents / sums
    delta[rows, labels] -= np.float32(1)
    delta /= np.float32(len(labels))
    return loss, delta


def squared_error(found: Floats, wanted: Floats) -> tuple[float, Floats]:
    """Return the mean squared difference, and its gradient by `found`."""
    delta: Floats = found - wanted
    loss = float(np.square(delta).mean())
    delta *= np.float32(2 / delta.size)
    return loss, delta
