"""What audio model files compute, in float64, from the formats' own descriptions: frame by frame over the raw JSON.

Nothing of the package is used here, so that a misread weight is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any
Json = dict[str, Any]


def sigmoid(v: Array) -> Array:
    return 1 / (1 + np.exp(-v))


def softmax(v: Array) -> Array:
    e = np.exp(v - v.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "": lambda v: v, "tanh": np.tanh, "relu": lambda v: np.maximum(v, 0), "sigmoid": sigmoid, "softmax": softmax,
    "elu": lambda v: np.where(v > 0, v, np.exp(np.minimum(v, 0)) - 1),
}  # fmt: skip


def past(x: Array, t: int) -> Array:
    """Frame t, zeros before the first."""
    return x[t] if t >= 0 else np.zeros_like(x[0])


# -- Keras layers, as RTNeural JSON holds them ----------------------------------------------------------------------------


def rtneural(data: Json, x: Array) -> Array:
    x = np.asarray(x, float)
    for layer in data["layers"]:
        weights = [np.asarray(w, float) for w in layer["weights"]]
        x = KERAS[layer["type"]](layer, weights, x)
        if layer["type"] not in ("lstm", "gru", "prelu", "batchnorm", "batchnorm2d"):
            x = FUNCTIONS[layer["activation"]](x)
    return x


def _dense(layer: Json, w: list[Array], x: Array) -> Array:
    return x @ w[0] + (w[1] if len(w) > 1 else 0)


def _conv1d(layer: Json, w: list[Array], x: Array) -> Array:
    taps, per_in, out = w[0].shape
    groups, d = layer.get("groups", 1), layer["dilation"][0]
    stride = np.ravel(layer.get("strides", 1))[0]
    rows = []
    for t in range(0, len(x), stride):
        y = w[1].copy()
        for m in range(out):
            g = m * groups // out
            for k in range(taps):
                y[m] += past(x, t - (taps - 1 - k) * d)[g * per_in : (g + 1) * per_in] @ w[0][k, :, m]
        rows.append(y)
    return np.array(rows)


def _conv2d(layer: Json, w: list[Array], x: Array) -> Array:
    time, reach, _, out = w[0].shape
    F, s = layer["num_features_in"], layer["strides"]
    grid = x.reshape(len(x), F, -1)
    if layer["padding"] == "same":
        total = max((-(-F // s) - 1) * s + reach - F, 0)
        grid = np.pad(grid, [(0, 0), (total // 2, total - total // 2), (0, 0)])
    count = (grid.shape[1] - reach) // s + 1
    y = np.zeros((len(x), count, out)) + w[1]
    for t in range(len(x)):
        for f in range(count):
            for k in range(time):
                seen = past(grid, t - (time - 1 - k) * layer["dilation"])
                for j in range(reach):
                    y[t, f] += seen[f * s + j] @ w[0][k, j]
    return y.reshape(len(x), -1)


def _lstm(layer: Json, w: list[Array], x: Array) -> Array:
    W, U, b = w
    h = c = np.zeros(len(U))
    rows = []
    for frame in x:
        i, f, g, o = np.split(frame @ W + h @ U + b, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        rows.append(h)
    return np.array(rows)


def _gru(layer: Json, w: list[Array], x: Array) -> Array:
    W, U, b = w
    h = np.zeros(len(U))
    rows = []
    for frame in x:
        xz, xr, xh = np.split(frame @ W + b[0], 3)
        hz, hr, hh = np.split(h @ U + b[1], 3)
        z = sigmoid(xz + hz)
        h = z * h + (1 - z) * np.tanh(xh + sigmoid(xr + hr) * hh)
        rows.append(h)
    return np.array(rows)


def _batchnorm(layer: Json, w: list[Array], x: Array) -> Array:
    gamma, beta, mean, variance = w if len(w) == 4 else (1.0, 0.0, *w)
    shape = x.shape
    y = (x.reshape(len(x), -1, len(mean)) - mean) / np.sqrt(variance + layer["epsilon"]) * gamma + beta
    return y.reshape(shape)


KERAS: dict[str, Callable[[Json, list[Array], Array], Array]] = {
    "dense": _dense, "time-distributed-dense": _dense, "conv1d": _conv1d, "conv2d": _conv2d, "lstm": _lstm, "gru": _gru,
    "batchnorm": _batchnorm, "batchnorm2d": _batchnorm, "activation": lambda layer, w, x: x,
    "prelu": lambda layer, w, x: np.where(x > 0, x, x * w[0].ravel()),
}  # fmt: skip


# -- PyTorch ------------------------------------------------------------------------------------------------------------


def torch_rnn(state: Json, prefix: str, x: Array) -> Array:
    """nn.LSTM or nn.GRU, all layers."""
    k = 0
    while f"{prefix}weight_ih_l{k}" in state:
        W, R = (np.asarray(state[f"{prefix}weight_{way}_l{k}"], float) for way in ("ih", "hh"))
        b, c_ = (np.asarray(state.get(f"{prefix}bias_{way}_l{k}", 0.0), float) for way in ("ih", "hh"))
        H = R.shape[1]
        h = c = np.zeros(H)
        rows = []
        for frame in x:
            a, r_ = W @ frame + b, R @ h + c_
            if len(R) == 4 * H:
                i, f, g, o = np.split(a + r_, 4)
                c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(c)
            else:
                (ar, az, an), (hr, hz, hn) = np.split(a, 3), np.split(r_, 3)
                n = np.tanh(an + sigmoid(ar + hr) * hn)
                z = sigmoid(az + hz)
                h = (1 - z) * n + z * h
            rows.append(h)
        x, k = np.array(rows), k + 1
    return x


def torch_conv(weight: Array, bias: Array, x: Array, dilation: int = 1, groups: int = 1) -> Array:
    """nn.Conv1d, causal: weight [out, in / groups, taps]."""
    weight = np.asarray(weight, float)
    out, per, taps = weight.shape
    rows = []
    for t in range(len(x)):
        y = np.zeros(out) + np.asarray(bias, float)
        for m in range(out):
            g = m * groups // out
            for k in range(taps):
                y[m] += weight[m, :, k] @ past(x, t - (taps - 1 - k) * dilation)[g * per : (g + 1) * per]
        rows.append(y)
    return np.array(rows)


def torch_flavour(state: Json, x: Array) -> Array:
    """The topology of `audio_files.torch_state`."""
    x = np.tanh(torch_conv(state["conv.weight"], state["conv.bias"], x, dilation=2))
    x = torch_conv(state["wide.weight"], 0.0, x, groups=2)
    scale, shift, mean, var = (np.asarray(state[f"norm.{k}"], float) for k in ("weight", "bias", "running_mean", "running_var"))
    x = (x - mean) / np.sqrt(var + 1e-5) * scale + shift
    x = np.where(x > 0, x, x * state["slope.weight"][0])
    x = torch_rnn(state, "lstm.", torch_rnn(state, "gru.", x))
    return x @ np.asarray(state["out.weight"], float).T


def guitarml(data: Json, x: Array) -> Array:
    state = data["state_dict"]
    y = torch_rnn(state, "rec.", x) @ np.asarray(state["lin.weight"], float).T + np.asarray(state.get("lin.bias", 0.0), float)
    return y + data["model_data"]["skip"] * x[:, :1]


def aidax(data: Json, x: Array) -> Array:
    x = np.asarray(x, float).copy()
    x[:, 0] *= 10 ** (data.get("in_gain", 0) / 20)
    y = rtneural(data, x) + data.get("in_skip", 0) * x[:, :1]
    return y * 10 ** (data.get("out_gain", 0) / 20)
