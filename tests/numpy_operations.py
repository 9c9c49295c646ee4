"""The operations of a folded network in NumPy and float64."""

import numpy as np
import numpy_layers
from scipy.special import erf, expit

ACTIVATIONS = {
    'relu': lambda x: np.maximum(x, 0),
    'silu': lambda x: x * expit(x),
    'sigmoid': expit,
    'gelu_tanh': lambda x: x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))),
    'gelu': lambda x: x / 2 * (1 + erf(x / 2**0.5)),
}


class NumPy:
    """Operations in float64, each as its definition."""

    def enter(self, images, offset=None):
        return np.float64(images) + (0 if offset is None else offset)

    def leave(self, x):
        return x[:, 0, 0]

    def convolve(self, x, kernel, bias, *, stride, groups, padding):
        return numpy_layers.convolved(x, kernel, stride, groups, padding) + bias

    def activate(self, x, *, name):
        return ACTIVATIONS[name](x)

    def pool(self, x, *, kind, window, stride, padding):
        return {'max': numpy_layers.max_pooled, 'average': numpy_layers.average_pooled}[kind](
            x, window, stride, padding
        )

    def mean(self, x):
        return x.mean((1, 2), keepdims=True)

    def affine(self, x, scale, shift):
        return scale * x + shift

    def multiply(self, a, b):
        return a * b

    def add(self, a, b):
        return a + b
