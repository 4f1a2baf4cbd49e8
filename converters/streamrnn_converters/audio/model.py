"""What an audio model computes, as data: the same for every file format, and what the builder and the oracle both start from.

A frame is one vector of samples and knobs. Stages turn one vector into another, in order; those with memory remember
earlier frames. Weights are float32 and keep the layout named here; gate orders are said, never assumed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from streamrnn.errors import ModelFileError
from streamrnn.ir.graph import Array

#: limits of what a step may hold: frames that one convolution remembers, floats that all of them remember together, stages
MAX_HISTORY = 1 << 20
MAX_MEMORY = 1 << 24
MAX_STAGES = 512
#: elements of one frame, and frames of one step
MAX_WIDTH, MAX_FRAMES = 1 << 16, 1 << 12


@dataclass(frozen=True)
class Conv:
    """y[t, m] = bias[m] + sum over c, k of weight[m, c, k] x[t - (taps - 1 - k) * dilation, c of m's group].

    weight: [out, in / groups, taps], the newest sample meets the last tap; zeros lie before the first frame.
    stride: the layer answers to frames 0, stride, 2 * stride ... alone.
    """

    weight: Array
    bias: Array | None = None
    dilation: int = 1
    groups: int = 1
    stride: int = 1

    @staticmethod
    def dense(weight: Array, bias: Array | None = None, groups: int = 1) -> Conv:
        """A layer without memory; weight [out, in / groups]."""
        return Conv(weight[:, :, None], bias, groups=groups)

    @property
    def history(self) -> int:
        """Frames before the present one that are remembered."""
        return (int(self.weight.shape[2]) - 1) * self.dilation

    @property
    def width_in(self) -> int:
        return int(self.weight.shape[1]) * self.groups

    @property
    def width(self) -> int:
        return int(self.weight.shape[0])


@dataclass(frozen=True)
class Conv2d:
    """A convolution over time and over the features of a frame, causal in time.

    A frame of F features with C filters is the vector whose element f * C + c is filter c of feature f.
    weight: [filters out, filters in, taps in time, taps over features]; the newest frame meets the last tap.
    pads:   zeros before and behind the features.
    """

    weight: Array
    bias: Array | None
    features: int
    dilation: int
    stride: int
    pads: tuple[int, int]

    @property
    def history(self) -> int:
        return (int(self.weight.shape[2]) - 1) * self.dilation

    @property
    def features_out(self) -> int:
        return (self.features + sum(self.pads) - int(self.weight.shape[3])) // self.stride + 1

    @property
    def width_in(self) -> int:
        return int(self.weight.shape[1]) * self.features

    @property
    def width(self) -> int:
        return int(self.weight.shape[0]) * self.features_out


class _Cell:
    """What recurrent layers have in common: their widths follow from w_in and w_rec."""

    w_in: Array
    w_rec: Array

    @property
    def width_in(self) -> int:
        return int(self.w_in.shape[1])

    @property
    def width(self) -> int:
        return int(self.w_rec.shape[1])


@dataclass(frozen=True)
class Lstm(_Cell):
    """w_in [4H, in], w_rec [4H, H], bias [4H]: rows in the order i, f, g, o; h0 and c0 [H]: the state before frame 0."""

    w_in: Array
    w_rec: Array
    bias: Array
    h0: Array
    c0: Array


@dataclass(frozen=True)
class Gru(_Cell):
    """w_in [3H, in], w_rec [3H, H], b_in and b_rec [3H]: rows in the order of `gates`, "zrn" (Keras) or "rzn" (PyTorch).

    The reset gate acts behind the recurrent product (Keras: reset_after).
    """

    w_in: Array
    w_rec: Array
    b_in: Array
    b_rec: Array
    gates: str


@dataclass(frozen=True)
class BatchNorm:
    """scale * (x - mean) / sqrt(variance + epsilon) + shift, each [width]."""

    scale: Array
    shift: Array
    mean: Array
    variance: Array
    epsilon: float

    @property
    def width_in(self) -> int:
        return int(self.mean.shape[0])

    width = width_in


@dataclass(frozen=True)
class Activation:
    """A function of each element (softmax: of the whole frame). `kind` is a key of `ACTIVATIONS`; slopes: of prelu, [1] or
    [width]; numbers: the parameters by name."""

    kind: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    slopes: Array | None = None


#: activation -> its parameters with their defaults
ACTIVATIONS: Mapping[str, Mapping[str, float]] = {
    "tanh": {}, "fasttanh": {}, "relu": {}, "sigmoid": {}, "softmax": {}, "elu": {"alpha": 1.0}, "silu": {}, "softsign": {},
    "softsigmoid": {}, "hardswish": {}, "hardtanh": {"min_val": -1.0, "max_val": 1.0}, "leakyrelu": {"negative_slope": 0.01},
    "leakyhardtanh": {"min_val": -1.0, "max_val": 1.0, "min_slope": 0.01, "max_slope": 0.01}, "prelu": {},
}  # fmt: skip


@dataclass(frozen=True)
class Film:
    """x * scale + shift, where conv(condition) = [scale, shift]; without `shift` conv gives the scale alone."""

    conv: Conv
    shift: bool


@dataclass(frozen=True)
class WaveNetLayer:
    """conv(x) + mixin(condition) through the activation; `to_next` of that is added to x, `to_head` of it goes to the head.

    gate: "" (activation alone), "gated" (first half through the activation times second half through `second`) or "blended"
          (a * activation(u) + (1 - a) * u with u the first half, a = second(second half)).
    films: by place, as the file format names them.
    """

    conv: Conv
    mixin: Conv
    activation: Activation
    gate: str
    second: Activation | None
    to_next: Conv | None
    to_head: Conv | None
    films: Mapping[str, Film]


@dataclass(frozen=True)
class WaveNetArray:
    """Layers in a row behind a change of width; the sum of what they give to the head goes through `head`."""

    enter: Conv
    layers: tuple[WaveNetLayer, ...]
    head: Conv


@dataclass(frozen=True)
class WaveNet:
    """Arrays in a row; each one's head sum starts with the head of the one before. `condition`: what the frame goes through
    before it reaches the mixins; `post`: what follows the last head times `scale`."""

    arrays: tuple[WaveNetArray, ...]
    scale: float
    post: tuple[Activation | Conv, ...]
    condition: tuple[Stage, ...]

    @property
    def width_in(self) -> int:
        return self.arrays[0].enter.width_in

    @property
    def width(self) -> int:
        last = [stage for stage in self.post if isinstance(stage, Conv)]
        return (last[-1] if last else self.arrays[-1].head).width

    def convs(self) -> Sequence[Conv]:
        """Every convolution, those of the condition left out."""
        found = [stage for stage in self.post if isinstance(stage, Conv)]
        for array in self.arrays:
            found += [array.enter, array.head]
            for layer in array.layers:
                found += [layer.conv, layer.mixin, *(c for c in (layer.to_next, layer.to_head) if c is not None)]
                found += [film.conv for film in layer.films.values()]
        return found


Stage: TypeAlias = Conv | Conv2d | Lstm | Gru | BatchNorm | Activation | WaveNet


@dataclass(frozen=True)
class SelfTest:
    """A test that a file brings along: the output [n] that it expects for the input [n], from the initial state."""

    input: Array
    output: Array
    tolerance: float


@dataclass(frozen=True)
class AudioModel:
    """A model file, read and checked.

    output = out_gain * (stages(in_gain * x, knobs) + skip * in_gain * x), with x the first input.

    inputs:  name and width, in the order in which they lie in the frame; the first is the signal, the others are knobs.
    format:  what kind of file this was, with its version.
    meta:    what the file says about itself and has to survive: sample rate, levels, names.
    prewarm: frames of silence that the format's own player feeds before the first sound; 0 where it feeds none.
    """

    name: str
    format: str
    inputs: tuple[tuple[str, int], ...]
    stages: tuple[Stage, ...]
    skip: bool = False
    in_gain: float = 1.0
    out_gain: float = 1.0
    meta: Mapping[str, object] = field(default_factory=dict)
    prewarm: int = 0
    self_test: SelfTest | None = None


def checked(model: AudioModel, where: str) -> AudioModel:
    """`model` where its stages fit each other and its memory is bounded. Raises ModelFileError."""
    width = check_stages(model.stages, sum(size for _, size in model.inputs), where)
    first = model.inputs[0][1]
    if model.skip and width not in (1, first):
        raise ModelFileError(f"{where}: the input of {first} channels cannot be added to {width} outputs; export it again")
    held = sum(_memory(stage, where) for stage in model.stages)
    if held > MAX_MEMORY:
        raise ModelFileError(f"{where}: its convolutions would remember {held} numbers, at most {MAX_MEMORY} are allowed")
    frames = math.prod(stage.stride for stage in model.stages if isinstance(stage, Conv))
    if frames > MAX_FRAMES:
        raise ModelFileError(f"{where}: its strides make {frames} frames a step, at most {MAX_FRAMES} are compiled")
    return model


def check_stages(stages: Sequence[Stage], width: int, where: str) -> int:
    """The width behind the stages, given the one in front. Raises ModelFileError where two do not fit."""
    if len(stages) > MAX_STAGES:
        raise ModelFileError(f"{where}: {len(stages)} layers and activations, at most {MAX_STAGES} are compiled")
    for stage in stages:
        if isinstance(stage, Activation):
            continue
        if stage.width_in != width:
            raise ModelFileError(f"{where}: a layer that takes {stage.width_in} values is given {width}; export the file again")
        width = stage.width
    return width


def _memory(stage: Stage, where: str) -> int:
    """Numbers that a stage remembers; ModelFileError where one convolution alone remembers too many frames."""
    if isinstance(stage, WaveNet):
        return sum(_memory(inner, where) for inner in (*stage.convs(), *stage.condition))
    if not isinstance(stage, Conv | Conv2d):
        return 0
    if stage.history > MAX_HISTORY:
        raise ModelFileError(
            f"{where}: a convolution reaches back {stage.history} frames, at most {MAX_HISTORY} are allowed; the file is "
            f"altered, export it again"
        )
    return stage.history * stage.width_in


def receptive_field(stages: Sequence[Stage]) -> int | None:
    """Frames that one output depends on, None with recurrence: 1 for stages without memory."""
    total = 1
    for stage in stages:
        if isinstance(stage, Lstm | Gru):
            return None
        if isinstance(stage, WaveNet):
            inside = receptive_field(stage.condition)
            if inside is None:
                return None
            total += inside - 1 + sum(a.head.history + sum(x.conv.history for x in a.layers) for a in stage.arrays)
            total += sum(c.history for c in stage.post if isinstance(c, Conv))
        elif isinstance(stage, Conv | Conv2d):
            total += stage.history
    return total


def decibels(level: float, where: str) -> float:
    """A gain in dB as a factor. Raises ModelFileError where it is absurd."""
    if not -200.0 <= level <= 200.0:
        raise ModelFileError(f"{where}: a gain of {level:g} dB is outside of -200 to 200; the file is altered")
    return math.pow(10.0, level / 20.0)


def zeros(*shape: int) -> Array:
    """float32 zeros, for what a file leaves out. Sizes are those of arrays that were read already."""
    return np.zeros(shape, np.float32)
