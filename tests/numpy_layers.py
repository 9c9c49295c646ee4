"""Layers in NumPy and float64, each written as its definition."""

import jax
import numpy as np

from nfnets.models.networks import variable_shapes


def standardized(w, gain, eps=1e-4):
    """Scaled weight standardization of [H, W, I, O]."""
    w = np.float64(w)
    fan_in = np.prod(w.shape[:3])
    mean, variance = w.mean((0, 1, 2)), w.var((0, 1, 2))
    return (w - mean) * np.float64(gain) / np.sqrt(np.maximum(fan_in * variance, eps))


def _windows(x, size, stride, fill, padding=None):
    """Patches of [N, H, W, C] under a window: [N, H', W', size, size, C].

    Padding is px before and after in each direction; None: SAME, for H' = ceil(H / stride).
    """
    if padding is None:
        out = [-(-length // stride) for length in x.shape[1:3]]
        pad = [max((o - 1) * stride + size - n, 0) for o, n in zip(out, x.shape[1:3], strict=True)]
        padding = [(p // 2, p - p // 2) for p in pad]
    x = np.pad(x, [(0, 0), *padding, (0, 0)], constant_values=fill)
    out = [(length - size) // stride + 1 for length in x.shape[1:3]]
    rows = [
        [x[:, i * stride : i * stride + size, j * stride : j * stride + size] for j in range(out[1])]
        for i in range(out[0])
    ]
    return np.stack([np.stack(row, axis=1) for row in rows], axis=1)


def convolved(x, w, stride=1, groups=1, padding=None):
    """Convolution of [N, H, W, I] with [h, w, I / groups, O]."""
    w = np.float64(w)
    patches = _windows(np.float64(x), w.shape[0], stride, 0.0, padding)
    parts = zip(np.split(patches, groups, axis=5), np.split(w, groups, axis=3), strict=True)
    return np.concatenate([np.einsum('nyxhwi,hwio->nyxo', p, part) for p, part in parts], axis=3)


def max_pooled(x, size, stride, padding=None):
    """Max-pooling of [N, H, W, C]."""
    return _windows(x, size, stride, -np.inf, padding).max(axis=(3, 4))


def average_pooled(x, size, stride, padding=None):
    """Average-pooling of [N, H, W, C]: what lies outside does not count."""
    return np.nanmean(_windows(x, size, stride, np.nan, padding), axis=(3, 4))


def linear(params, x):
    """[N, I] -> [N, O]."""
    return x @ params['w'] + params['b']


def squeezed(first, second, x):
    """The factor of squeeze-excite for [N, H, W, C], [N, 1, 1, C]."""
    hidden = np.maximum(linear(first, x.mean((1, 2))), 0)
    return 1 / (1 + np.exp(-linear(second, hidden)))[:, None, None, :]


def random_params(network, seed=0):
    """Parameters of a `TransformedWithState`, none of them at its initial value; float64."""
    shapes, _ = variable_shapes(network)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: rng.normal(1.0, 0.5, s.shape), shapes)
