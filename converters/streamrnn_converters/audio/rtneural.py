"""RTNeural JSON: what its Keras exporter writes.

in_shape  [batch, time, channels]; with four entries [batch, time, features, filters]; a frame is then one vector of
          features * filters, the filters of one feature side by side.
layers    in order, each with type, shape (its last entries are the layer's width), weights, and, but for recurrent layers,
          an activation behind it.

Weights, as Keras gives them:
    dense            W [in, out], b [out]
    conv1d           W [taps, in / groups, out], b [out]; causal, the last tap meets the newest frame
    conv2d           W [taps in time, taps over features, in, out], b [out]; dilation in time, stride over features
    lstm             W [in, 4H], U [H, 4H], b [4H]; gates i, f, c, o
    gru              W [in, 3H], U [H, 3H], b [2, 3H]; gates z, r, h; the reset gate behind the product (reset_after)
    batchnorm(2d)    gamma, beta, mean, variance; without gamma and beta where they were not trained
    prelu            alpha [1, 1, width or 1]

A stride over time ("strides" of a conv1d, as Keras has it) gives one frame for several; RTNeural's own strided layer repeats
its last answer in between.

RTNeural skips layers of a type that it does not know and fills missing weights with zeros; here both are refused.
Source  the loader and the exporter of github.com/jatinchowdhury18/RTNeural.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from streamrnn.ir.graph import Array
from streamrnn_converters.audio._json import Fields, array, integer, refuse, shown
from streamrnn_converters.audio.model import (
    MAX_FRAMES,
    MAX_HISTORY,
    MAX_STAGES,
    MAX_WIDTH,
    Activation,
    AudioModel,
    BatchNorm,
    Conv,
    Conv2d,
    Gru,
    Lstm,
    Stage,
    checked,
    zeros,
)

_ACTIVATIONS = ("tanh", "relu", "sigmoid", "softmax", "elu")
_MISFIT = "the layer's shape and its weights disagree, so the file was altered or written wrongly; export it again"


def read_rtneural(data: Fields, name: str) -> AudioModel:
    """The model of a parsed file. Raises ModelFileError naming the layer."""
    stages, inputs, notes = read_layers(data)
    meta = {"notes": notes} if notes else {}
    model = AudioModel(name, "RTNeural JSON", (("audio", inputs),), stages, meta=meta)
    return checked(model, data.where)


def read_layers(data: Fields) -> tuple[tuple[Stage, ...], int, list[str]]:
    """The stages, the width of the input, and what a reader should know (which settings of the file have no effect)."""
    inputs = _width(data.items("in_shape"), f"{data.where}: 'in_shape'")
    stages: list[Stage] = []
    notes: list[str] = []
    width = inputs
    for index, layer in data.objects("layers", MAX_STAGES, "layer"):
        kind = layer.text("type")
        layer = Fields(layer.data, f"{data.where}: layer {index} ({shown(kind)[1:-1]})")
        if kind not in _LAYERS:
            refuse(
                layer.where,
                "this layer type is not known; RTNeural would leave it out without a word",
                f"the types are {', '.join(_LAYERS)}; take the layer out of the model and export it again",
            )
        out = _width(layer.items("shape"), f"{layer.where}: 'shape'")
        given = layer.need("weights")
        if not isinstance(given, list):
            refuse(layer.where, f"'weights' is {shown(given)}, not a list of arrays")
        stages += _LAYERS[kind](_Weights(layer, given), width, out)
        width = out
        activation = layer.text("activation", "")
        if activation and kind in _ACTIVE:
            stages += _activation(layer, activation)
        elif activation not in ("", "tanh"):
            notes.append(f"layer {index}: activation '{shown(activation)[1:-1]}' on a {kind} has no effect, as in RTNeural")
    return tuple(stages), inputs, notes


def _width(shape: list[Any], where: str) -> int:
    """Values in one frame of a shape [batch, time, channels], [batch, channels] or [batch, time, features, filters]."""
    if not 2 <= len(shape) <= 4:
        refuse(where, f"{shown(shape)} has {len(shape)} entries, 2 to 4 are expected")
    sizes = shape[2:] if len(shape) == 4 else shape[-1:]
    width = 1
    for size in sizes:
        width *= integer(size, where, 1, MAX_WIDTH)
    if width > MAX_WIDTH:
        refuse(where, f"a frame of {width} values; at most {MAX_WIDTH} are compiled")
    return width


class _Weights:
    """The weights of one layer; arrays are asked for with the shape that the layer's sizes demand."""

    def __init__(self, layer: Fields, given: list[Any]) -> None:
        self.layer = layer
        self.given = given

    @property
    def count(self) -> int:
        return len(self.given)

    def expect(self, *counts: int) -> None:
        """Refuse any other number of arrays."""
        if self.count not in counts:
            wanted = " or ".join(map(str, counts))
            refuse(self.layer.where, f"has {self.count} weight arrays, {wanted} are expected", _MISFIT)

    def take(self, index: int, *shape: int | None) -> Array:
        return array(self.given[index], f"{self.layer.where}: weights[{index}]", shape)


def _same(layer: Fields, width: int, out: int) -> None:
    if width != out:
        refuse(layer.where, f"gives {out} values for {width}, and this type changes nothing of that", _MISFIT)


def _activation(layer: Fields, name: str) -> list[Stage]:
    if name not in _ACTIVATIONS:
        remedy = f"RTNeural knows {', '.join(_ACTIVATIONS)}; export the model with one of these"
        refuse(layer.where, f"activation {shown(name)} is not known", remedy)
    return [Activation(name)]


def _dense(weights: _Weights, width: int, out: int) -> list[Stage]:
    weights.expect(1, 2)
    kernel = weights.take(0, width, out)
    return [Conv.dense(kernel.T.copy(), weights.take(1, out) if weights.count == 2 else None)]


def _conv1d(weights: _Weights, width: int, out: int) -> list[Stage]:
    layer = weights.layer
    taps = layer.size("kernel_size", 1, MAX_HISTORY)
    dilation = layer.size("dilation", 1, MAX_HISTORY, 1)
    groups = layer.size("groups", 1, MAX_WIDTH, 1)
    stride = layer.size("strides", 1, MAX_FRAMES, 1)
    if width % groups or out % groups:
        refuse(layer.where, f"{width} inputs and {out} outputs do not divide into {groups} groups", _MISFIT)
    weights.expect(1, 2)
    kernel = weights.take(0, taps, width // groups, out)
    bias = weights.take(1, out) if weights.count == 2 else None
    return [Conv(kernel.transpose(2, 1, 0).copy(), bias, dilation, groups, stride)]


def _conv2d(weights: _Weights, width: int, out: int) -> list[Stage]:
    layer = weights.layer
    features, filters = (layer.size(key, 1, MAX_WIDTH) for key in ("num_features_in", "num_filters_in"))
    filters_out = layer.size("num_filters_out", 1, MAX_WIDTH)
    taps, reach = layer.size("kernel_size_time", 1, MAX_HISTORY), layer.size("kernel_size_feature", 1, MAX_WIDTH)
    dilation, stride = layer.size("dilation", 1, MAX_HISTORY, 1), layer.size("strides", 1, MAX_WIDTH, 1)
    padding = layer.text("padding")
    if padding not in ("valid", "same"):
        refuse(layer.where, f"padding is {shown(padding)}, not valid or same")
    if features * filters != width:
        refuse(layer.where, f"{features} features of {filters} filters are not the {width} values that it is given", _MISFIT)
    total = max(reach - stride if features % stride == 0 else reach - features % stride, 0) if padding == "same" else 0
    pads = (total // 2, total - total // 2)
    if features + total < reach:
        refuse(layer.where, f"{features} features are fewer than its {reach} taps", _MISFIT)
    weights.expect(1, 2)
    kernel = weights.take(0, taps, reach, filters, filters_out)
    bias = weights.take(1, filters_out) if weights.count == 2 else None
    conv = Conv2d(kernel.transpose(3, 2, 0, 1).copy(), bias, features, dilation, stride, pads)
    if conv.width != out:
        refuse(layer.where, f"gives {conv.features_out} features of {filters_out} filters, not {out} values", _MISFIT)
    return [conv]


def _lstm(weights: _Weights, width: int, H: int) -> list[Stage]:
    weights.expect(2, 3)
    kernel, recurrent = weights.take(0, width, 4 * H), weights.take(1, H, 4 * H)
    bias = weights.take(2, 4 * H) if weights.count == 3 else zeros(4 * H)
    return [Lstm(kernel.T.copy(), recurrent.T.copy(), bias, zeros(H), zeros(H))]


def _gru(weights: _Weights, width: int, H: int) -> list[Stage]:
    weights.expect(2, 3)
    kernel, recurrent = weights.take(0, width, 3 * H), weights.take(1, H, 3 * H)
    if weights.count == 3 and isinstance(weights.given[2], list) and len(weights.given[2]) == 3 * H:
        refuse(
            weights.layer.where,
            f"has one bias of {3 * H}: its reset gate acts in front of the product (reset_after=False)",
            "RTNeural computes reset_after=True; train and export the layer that way",
        )
    bias = weights.take(2, 2, 3 * H) if weights.count == 3 else zeros(2, 3 * H)
    return [Gru(kernel.T.copy(), recurrent.T.copy(), bias[0], bias[1], "zrn")]


def _statistics(weights: _Weights, channels: int, repeats: int) -> list[Stage]:
    weights.expect(2, 4)
    epsilon = weights.layer.number("epsilon")
    arrays = [weights.take(k, channels) for k in range(weights.count)]
    if weights.count == 2:
        arrays = [np.ones(channels, np.float32), zeros(channels), *arrays]
    if not epsilon >= 0 or not (arrays[3] + epsilon > 0).all():
        refuse(weights.layer.where, "a variance plus epsilon is not positive", "train or export the model again")
    scale, shift, mean, variance = (np.tile(a, repeats) for a in arrays)
    return [BatchNorm(scale, shift, mean, variance, epsilon)]


def _batchnorm(weights: _Weights, width: int, out: int) -> list[Stage]:
    _same(weights.layer, width, out)
    return _statistics(weights, width, 1)


def _batchnorm2d(weights: _Weights, width: int, out: int) -> list[Stage]:
    _same(weights.layer, width, out)
    filters, features = (weights.layer.size(key, 1, MAX_WIDTH) for key in ("num_filters_in", "num_features_in"))
    if filters * features != width:
        refuse(weights.layer.where, f"{features} features of {filters} filters are not {width} values", _MISFIT)
    return _statistics(weights, filters, features)


def _prelu(weights: _Weights, width: int, out: int) -> list[Stage]:
    _same(weights.layer, width, out)
    weights.expect(1)
    slopes = weights.take(0, 1, 1, None)[0, 0] if _depth(weights.given[0]) == 3 else weights.take(0, 1, None)[0]
    if slopes.size not in (1, width):
        refuse(weights.layer.where, f"has {slopes.size} slopes for {width} values", _MISFIT)
    return [Activation("prelu", slopes=slopes)]


def _depth(value: object) -> int:
    depth = 0
    while isinstance(value, list) and value and depth < 8:
        value, depth = value[0], depth + 1
    return depth


def _no_weights(weights: _Weights, width: int, out: int) -> list[Stage]:
    _same(weights.layer, width, out)
    weights.expect(0)
    return []


_LAYERS: Mapping[str, Callable[[_Weights, int, int], list[Stage]]] = {
    "dense": _dense, "time-distributed-dense": _dense, "conv1d": _conv1d, "conv2d": _conv2d, "lstm": _lstm, "gru": _gru,
    "batchnorm": _batchnorm, "batchnorm2d": _batchnorm2d, "prelu": _prelu, "activation": _no_weights,
}  # fmt: skip
#: types whose activation RTNeural applies
_ACTIVE = ("dense", "time-distributed-dense", "conv1d", "conv2d", "activation")
