"""What an AudioModel computes, in NumPy, written from the formulas: the oracle of `validate` for audio formats.

In float64 it is the truth; in float32 it shows how far rounding alone moves the answer. It shares the reading of the file with
the engine and nothing else: no op, no pass, no kernel. Recurrent layers are loops over time in the gate order that the file
names; convolutions are sums over taps of shifted signals. A signal is [frames, values].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from streamrnn_converters.audio.model import (
    Activation,
    AudioModel,
    BatchNorm,
    Conv,
    Conv2d,
    Film,
    Gru,
    Lstm,
    Stage,
    WaveNet,
    WaveNetLayer,
)

Signal = npt.NDArray[np.floating[Any]]


def output(
    model: AudioModel, inputs: Mapping[str, npt.ArrayLike], silence: int = 0, dtype: npt.DTypeLike = np.float64
) -> Signal:
    """The output [frames, channels] for inputs [frames, width] by name, from the initial state.

    silence: frames of zeros fed first, their output dropped. With strided layers there is one output for several frames.
    """
    with np.errstate(over="ignore", under="ignore"):
        signal, frame = _frame(model, inputs, silence, dtype)
        y = run(model.stages, frame, [])
        if model.skip:
            y = y + signal
        y = y * np.asarray(model.out_gain, dtype)
    found: Signal = y[silence:]
    return found


def layers(model: AudioModel, inputs: Mapping[str, npt.ArrayLike], silence: int = 0) -> list[Signal]:
    """What stands behind each stage, and behind each convolution in front of and behind the layers of a WaveNet and each of
    these layers, as `output` goes through them: [frames, width]."""
    seen: list[Signal] = []
    with np.errstate(over="ignore", under="ignore"):
        run(model.stages, _frame(model, inputs, silence, np.float64)[1], seen)
    return [value[silence:] for value in seen]


def _frame(model: AudioModel, inputs: Mapping[str, npt.ArrayLike], silence: int, dtype: npt.DTypeLike) -> tuple[Signal, Signal]:
    """(the signal behind its gain, the frame that the first stage gets)"""
    parts = []
    for name, width in model.inputs:
        given = np.asarray(inputs[name], dtype).reshape(-1, width)
        parts.append(np.concatenate([np.zeros((silence, width), dtype), given]))
    signal: Signal = parts[0] * np.asarray(model.in_gain, dtype)
    return signal, np.concatenate([signal, *parts[1:]], axis=1)


def run(stages: Sequence[Stage], x: Signal, seen: list[Signal]) -> Signal:
    """The stages one after the other on a whole signal; what stands behind each is appended to `seen`."""
    for stage in stages:
        x = _wavenet(stage, x, seen) if isinstance(stage, WaveNet) else _STAGES[type(stage)](stage, x)
        seen.append(x)
    return x


def _delayed(x: Signal, frames: int) -> Signal:
    """x[t - frames], zero before the first frame."""
    y = np.zeros_like(x)
    y[frames:] = x[: len(x) - frames]
    return y


def _conv(stage: Conv, x: Signal) -> Signal:
    weight = stage.weight.astype(x.dtype)
    out, per_group, taps = weight.shape
    y = np.zeros((len(x), out), x.dtype)
    for tap in range(taps):
        past = _delayed(x, min(len(x), (taps - 1 - tap) * stage.dilation))
        for m in range(out):
            first = m // (out // stage.groups) * per_group
            y[:, m] += past[:, first : first + per_group] @ weight[m, :, tap]
    if stage.bias is not None:
        y += stage.bias.astype(x.dtype)
    return y[:: stage.stride]


def _conv2d(stage: Conv2d, x: Signal) -> Signal:
    weight = stage.weight.astype(x.dtype)
    out, filters, taps, reach = weight.shape
    grid = np.pad(x.reshape(len(x), stage.features, filters), [(0, 0), stage.pads, (0, 0)])
    y = np.zeros((len(x), stage.features_out, out), x.dtype)
    for tap in range(taps):
        past = _delayed(grid, min(len(x), (taps - 1 - tap) * stage.dilation))
        for f in range(stage.features_out):
            seen = past[:, f * stage.stride : f * stage.stride + reach]
            y[:, f] += np.einsum("trc,mcr->tm", seen, weight[:, :, tap])
    if stage.bias is not None:
        y += stage.bias.astype(x.dtype)
    return y.reshape(len(x), -1)


def _sigmoid(x: Signal) -> Signal:
    return 1.0 / (1.0 + np.exp(-x))


def _lstm(stage: Lstm, x: Signal) -> Signal:
    H = stage.width
    h, c = stage.h0.astype(x.dtype), stage.c0.astype(x.dtype)
    recurrent = stage.w_rec.astype(x.dtype)
    given = x @ stage.w_in.astype(x.dtype).T + stage.bias.astype(x.dtype)
    y = np.zeros((len(x), H), x.dtype)
    for t in range(len(x)):
        i, f, g, o = (given[t] + recurrent @ h).reshape(4, H)
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        h = _sigmoid(o) * np.tanh(c)
        y[t] = h
    return y


def _gru(stage: Gru, x: Signal) -> Signal:
    H = stage.width
    h = np.zeros(H, x.dtype)
    recurrent, offset = stage.w_rec.astype(x.dtype), stage.b_rec.astype(x.dtype)
    given = x @ stage.w_in.astype(x.dtype).T + stage.b_in.astype(x.dtype)
    y = np.zeros((len(x), H), x.dtype)
    for t in range(len(x)):
        a = dict(zip(stage.gates, given[t].reshape(3, H), strict=True))
        b = dict(zip(stage.gates, (recurrent @ h + offset).reshape(3, H), strict=True))
        z, r = _sigmoid(a["z"] + b["z"]), _sigmoid(a["r"] + b["r"])
        n = np.tanh(a["n"] + r * b["n"])
        h = (1.0 - z) * n + z * h
        y[t] = h
    return y


def _batchnorm(stage: BatchNorm, x: Signal) -> Signal:
    mean, variance = stage.mean.astype(x.dtype), stage.variance.astype(x.dtype)
    scale = stage.scale.astype(x.dtype)
    return (x - mean) / np.sqrt(variance + np.asarray(stage.epsilon, x.dtype)) * scale + stage.shift.astype(x.dtype)


def _film(film: Film | None, x: Signal, condition: Signal) -> Signal:
    if film is None:
        return x
    given = _conv(film.conv, condition)
    if not film.shift:
        return x * given
    half = given.shape[1] // 2
    return x * given[:, :half] + given[:, half:]


def _wavenet(net: WaveNet, x: Signal, seen: list[Signal]) -> Signal:
    condition = run(net.condition, x, seen)
    head: Signal | None = None
    for array in net.arrays:
        x = _conv(array.enter, x)
        seen.append(x)
        for layer in array.layers:
            x, given = _layer(layer, x, condition)
            head = given if head is None else head + given
            seen.append(x)
        assert head is not None
        head = _conv(array.head, head)
        seen.append(head)
    assert head is not None
    return run(net.post, head * np.asarray(net.scale, head.dtype), seen)


def _layer(layer: WaveNetLayer, x: Signal, condition: Signal) -> tuple[Signal, Signal]:
    """(what the next layer sees, what the head gets)"""

    def film(place: str, value: Signal) -> Signal:
        return _film(layer.films.get(place), value, condition)

    conv = film("conv_post_film", _conv(layer.conv, film("conv_pre_film", x)))
    mixed = film("input_mixin_post_film", _conv(layer.mixin, film("input_mixin_pre_film", condition)))
    z = film("activation_pre_film", conv + mixed)
    if layer.gate:
        assert layer.second is not None
        half = z.shape[1] // 2
        u, share = z[:, :half], _activation(layer.second, z[:, half:])
        active = _activation(layer.activation, u)
        z = active * share if layer.gate == "gated" else share * active + (1.0 - share) * u
    else:
        z = _activation(layer.activation, z)
    z = film("activation_post_film", z)
    to_head = z if layer.to_head is None else film("head1x1_post_film", _conv(layer.to_head, z))
    to_next = x if layer.to_next is None else x + film("layer1x1_post_film", _conv(layer.to_next, z))
    return to_next, to_head


def _activation(stage: Activation, x: Signal) -> Signal:
    if stage.kind == "prelu":
        assert stage.slopes is not None
        return np.where(x > 0, x, x * stage.slopes.astype(x.dtype))
    return _FUNCTIONS[stage.kind](x, stage.numbers)


def _softmax(x: Signal, numbers: Mapping[str, float]) -> Signal:
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _fasttanh(x: Signal, numbers: Mapping[str, float]) -> Signal:
    """NeuralAmpModelerCore's rational function."""
    a, x2 = np.abs(x), x * x
    above = x * (2.45550750702956 + 2.45550750702956 * a + (0.893229853513558 + 0.821226666969744 * a) * x2)
    return np.asarray(above / (2.44506634652299 + (2.44506634652299 + x2) * np.abs(x + 0.814642734961073 * x * a)))


def _leakyhardtanh(x: Signal, n: Mapping[str, float]) -> Signal:
    low, high = n["min_val"], n["max_val"]
    below, above = (x - low) * n["min_slope"] + low, (x - high) * n["max_slope"] + high
    return np.where(x < low, below, np.where(x > high, above, x))


_FUNCTIONS: Mapping[str, Callable[[Signal, Mapping[str, float]], Signal]] = {
    "tanh": lambda x, n: np.tanh(x),
    "fasttanh": _fasttanh,
    "relu": lambda x, n: np.where(x > 0, x, 0.0),
    "sigmoid": lambda x, n: _sigmoid(x),
    "softmax": _softmax,
    "elu": lambda x, n: np.where(x > 0, x, n.get("alpha", 1.0) * np.expm1(np.minimum(x, 0.0))),
    "silu": lambda x, n: x * _sigmoid(x),
    "softsign": lambda x, n: x / (1.0 + np.abs(x)),
    "softsigmoid": lambda x, n: 0.5 * (1.0 + x / (1.0 + np.abs(x))),
    "hardswish": lambda x, n: x * np.clip(x + 3.0, 0.0, 6.0) / 6.0,
    "hardtanh": lambda x, n: np.clip(x, n["min_val"], n["max_val"]),
    "leakyrelu": lambda x, n: np.where(x > 0, x, x * n["negative_slope"]),
    "leakyhardtanh": _leakyhardtanh,
}

_STAGES: Mapping[type, Callable[..., Signal]] = {
    Conv: _conv, Conv2d: _conv2d, Lstm: _lstm, Gru: _gru, BatchNorm: _batchnorm, Activation: _activation,
}  # fmt: skip
