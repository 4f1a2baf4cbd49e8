"""NAM (Neural Amp Modeler), .nam files: JSON with version, architecture, config and one flat list of weights.

LSTM      per layer W [4H, in + H] (rows i, f, g, o), bias [4H], then the state before the first frame, h [H] and c [H];
          behind the layers the head, W [out, H] and bias [out]
ConvNet   per block a convolution of 2 taps, [out, in / groups, 2], with a bias or, with batchnorm, mean, variance, scale, shift
          and epsilon; then the head, W [out, channels] and bias [out]
Linear    one response of `receptive_field` taps for each pair of channels, the first meets the newest frame; biases
WaveNet   see `nam_wavenet`
SlimmableContainer   models of several sizes; the last, largest one is taken, as the player does
Sequential           models in a row

The player feeds silence before the first sound ("prewarm"): half a second to an LSTM, the receptive field to the others.
Source  github.com/sdatkinson/NeuralAmpModelerCore and neural-amp-modeler, file versions 0.5 to 0.7.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from streamrnn_converters.audio._json import Fields, integer, refuse, shown
from streamrnn_converters.audio.model import (
    MAX_HISTORY,
    MAX_STAGES,
    MAX_WIDTH,
    AudioModel,
    BatchNorm,
    Conv,
    Lstm,
    Stage,
    check_stages,
    checked,
)
from streamrnn_converters.audio.nam_parts import Weights, activation
from streamrnn_converters.audio.nam_wavenet import read_wavenet, wavenet_reach
from streamrnn_converters.audio.notes import knobs, meta_of

_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})(\D.*)?")
_VERSIONS = ((0, 5), (0, 7))
#: containers inside containers, conditions inside conditions
_DEPTH = 4
_CHANNELS = 64


@dataclass(frozen=True)
class Part:
    """One model of a file. prewarm: frames of silence in front of the first sound."""

    architecture: str
    inputs: tuple[tuple[str, int], ...]
    stages: tuple[Stage, ...]
    prewarm: int


def read_nam(data: Fields, name: str) -> AudioModel:
    """The model of a parsed file. Raises ModelFileError."""
    version = _version(data)
    meta = meta_of(data, skip={"version", "architecture", "config", "weights", "metadata"})
    if "metadata" in data:
        meta = {**meta_of(data.fields("metadata")), **meta}
    part = _part(data, meta.get("sample_rate"), _DEPTH)
    kind = f"NAM {part.architecture} (file version {version})"
    own = str(meta["name"]) if isinstance(meta.get("name"), str) else name
    return checked(AudioModel(own, kind, part.inputs, part.stages, meta=meta, prewarm=part.prewarm), data.where)


def _version(data: Fields) -> str:
    text = data.text("version")
    match = _VERSION.fullmatch(text)
    if match is None:
        refuse(data.where, f"version {shown(text)} is not like 0.5.4")
    if not _VERSIONS[0] <= (int(match[1]), int(match[2])) <= _VERSIONS[1]:
        first, last = (".".join(map(str, v)) for v in _VERSIONS)
        remedy = "upgrade streamrnn, or export the model with a trainer of that age"
        refuse(data.where, f"file version {text}; versions {first} to {last} are read", remedy)
    return text


def _part(data: Fields, rate: object, depth: int) -> Part:
    """The model of an object with architecture, config and weights; `rate`: of the file around it."""
    own = meta_of(Fields({k: v for k, v in data.data.items() if k == "sample_rate"}, data.where)).get("sample_rate")
    if own is not None and rate is not None and own != rate:
        refuse(data.where, f"is for {own} Hz inside a file for {rate} Hz")
    if depth == 0:
        refuse(data.where, f"models are nested more than {_DEPTH} deep")
    if "version" in data:
        _version(data)
    architecture, config = data.text("architecture"), data.fields("config")
    if architecture not in _READERS:
        known = ", ".join(_READERS)
        refuse(
            data.where,
            f"architecture {shown(architecture)} is not known",
            f"{known} are; upgrade streamrnn or convert the file",
        )
    return _READERS[architecture](data, config, rate if own is None else own, depth)


def _channels(config: Fields) -> tuple[int, int]:
    return config.integer("in_channels", 1, _CHANNELS, 1), config.integer("out_channels", 1, _CHANNELS, 1)


def _lstm(data: Fields, config: Fields, rate: object, depth: int) -> Part:
    width, H = config.integer("input_size", 1, MAX_WIDTH), config.integer("hidden_size", 1, MAX_WIDTH)
    out = _channels(config)[1]
    count = config.integer("num_layers", 1, MAX_STAGES)
    weights = Weights(data)
    stages: list[Stage] = []
    for k in range(count):
        n = width if k == 0 else H
        matrix = weights.take(4 * H, n + H)
        stages.append(Lstm(matrix[:, :n], matrix[:, n:], weights.take(4 * H), weights.take(H), weights.take(H)))
    stages.append(Conv.dense(weights.take(out, H), weights.take(out)))
    weights.end()
    # parametric models feed their knobs as further inputs; "in_channels" says that all of them are signals
    inputs = (("audio", width),) if "in_channels" in config else knobs(width - 1)
    return Part("LSTM", inputs, tuple(stages), max(1, int(0.5 * rate)) if isinstance(rate, int | float) else 1)


def _convnet(data: Fields, config: Fields, rate: object, depth: int) -> Part:
    width, out = _channels(config)
    channels, groups = config.integer("channels", 1, MAX_WIDTH), config.integer("groups", 1, MAX_WIDTH, 1)
    norm = config.flag("batchnorm")
    dilations = [integer(d, f"{config.where}: 'dilations'", 1, MAX_HISTORY) for d in config.items("dilations")]
    if not 1 <= len(dilations) <= MAX_STAGES:
        refuse(config.where, f"{len(dilations)} dilations, 1 to {MAX_STAGES} are expected")
    weights = Weights(data)
    stages: list[Stage] = []
    for k, dilation in enumerate(dilations):
        stages.append(weights.conv(width if k == 0 else channels, channels, 2, not norm, dilation, groups))
        if norm:
            mean, variance, scale, shift = (weights.take(channels) for _ in range(4))
            epsilon = float(weights.take(1)[0])
            if not (variance + epsilon > 0).all():
                refuse(data.where, f"block {k}: a variance plus epsilon is not positive")
            stages.append(BatchNorm(scale, shift, mean, variance, epsilon))
        stages.append(activation(config.need("activation"), f"{config.where}: 'activation'", channels))
    stages.append(weights.conv(channels, out, 1, True))
    weights.end()
    return Part("ConvNet", (("audio", width),), tuple(stages), 1 + sum(dilations))


def _linear(data: Fields, config: Fields, rate: object, depth: int) -> Part:
    width, out = _channels(config)
    taps, bias = config.integer("receptive_field", 1, MAX_HISTORY), config.flag("bias")
    if width != out and 1 not in (width, out):
        refuse(config.where, f"{width} inputs and {out} outputs; equal counts, or one on either side, are known")
    weights = Weights(data)
    shared = width == out
    responses = weights.take(1 if shared else max(width, out), taps)[:, ::-1]
    offsets = weights.take(1 if shared else out) if bias else np.zeros(1, np.float32)
    weights.end()
    offsets = np.broadcast_to(offsets, (out,)).copy()
    if shared:
        conv = Conv(np.tile(responses[:, None], (width, 1, 1)), offsets, groups=width)
    else:
        conv = Conv((responses[:, None] if width == 1 else responses[None]).copy(), offsets)
    return Part("Linear", (("audio", width),), (conv,), 0)


def _wavenet(data: Fields, config: Fields, rate: object, depth: int) -> Part:
    width = _channels(config)[0]
    condition = _part(config.fields("condition_dsp"), rate, depth - 1) if "condition_dsp" in config else None
    inner = condition.stages if condition is not None else ()
    conditioned = check_stages(inner, width, data.where)
    net = read_wavenet(data, config, width, conditioned, inner)
    return Part("WaveNet", (("audio", width),), (net,), (condition.prewarm if condition else 1) + wavenet_reach(net))


def _container(data: Fields, config: Fields, rate: object, depth: int) -> Part:
    models = list(config.objects("submodels", MAX_STAGES, "submodel"))
    sizes = [entry.number("max_value") for _, entry in models]
    if sizes != sorted(set(sizes)) or sizes[-1] < 1.0:
        refuse(config.where, f"submodels are not in ascending order of max_value up to 1: {shown(sizes)}")
    return _part(models[-1][1].fields("model"), rate, depth - 1)


def _sequential(data: Fields, config: Fields, rate: object, depth: int) -> Part:
    if "weights" in data and data.items("weights"):
        refuse(data.where, "a Sequential with weights of its own is of an abandoned form", "export it with a newer trainer")
    key = "models" if "models" in config else "layers"
    parts = []
    for _, entry in config.objects(key, MAX_STAGES, "model"):
        parts.append(_part(entry.fields("model") if "model" in entry else entry, rate, depth - 1))
    stages = tuple(stage for part in parts for stage in part.stages)
    return Part("Sequential", parts[0].inputs, stages, sum(part.prewarm for part in parts))


_READERS: Mapping[str, Callable[[Fields, Fields, object, int], Part]] = {
    "LSTM": _lstm, "WaveNet": _wavenet, "ConvNet": _convnet, "Linear": _linear,
    "SlimmableContainer": _container, "Sequential": _sequential,
}  # fmt: skip
