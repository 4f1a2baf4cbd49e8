"""The WaveNet of a NAM file.

layers   arrays of dilated convolutions. Per layer  z = conv(x) + mixin(condition), activated, gated where asked for;
         x' = x + layer1x1(z); the head sum takes z, or head1x1(z). FiLM may scale and shift at eight places, in the layer's own
         order. An array enters by a convolution of one tap and leaves by its head; the head sum of the next array starts with
         that head.
head     what follows head_scale times the last head: convolutions, an activation in front of each.

Weights: per array the entering convolution, per layer conv (with bias), mixin, layer1x1, head1x1 (with bias), the FiLMs; the
array's head; behind the arrays the head's convolutions and head_scale.
Source  github.com/sdatkinson/NeuralAmpModelerCore: docs/wavenet_walkthrough.rst; neural-amp-modeler: nam/models/wavenet.
"""

from __future__ import annotations

from typing import Any

from streamrnn_converters.audio._json import Fields, integer, refuse, shown
from streamrnn_converters.audio.model import (
    MAX_HISTORY,
    MAX_STAGES,
    MAX_WIDTH,
    Activation,
    Conv,
    Film,
    Stage,
    WaveNet,
    WaveNetArray,
    WaveNetLayer,
)
from streamrnn_converters.audio.nam_parts import Weights, activation

#: places of a FiLM, in the order of their weights
FILMS = (
    "conv_pre_film", "conv_post_film", "input_mixin_pre_film", "input_mixin_post_film",
    "activation_pre_film", "activation_post_film", "layer1x1_post_film", "head1x1_post_film",
)  # fmt: skip
_KEYS = frozenset({
    "input_size", "condition_size", "head_size", "head_bias", "head", "channels", "bottleneck", "kernel_size", "kernel_sizes",
    "dilations", "activation", "gated", "gating_mode", "secondary_activation", "groups_input", "groups_input_mixin",
    "head1x1", "layer1x1", "slimmable", *FILMS,
})  # fmt: skip
_GATES = {"none": "", "gated": "gated", "blended": "blended"}
_NEWER = "upgrade streamrnn, or export the file with an older trainer"


def read_wavenet(data: Fields, config: Fields, width: int, conditioned: int, condition: tuple[Stage, ...]) -> WaveNet:
    """The net of `config` with the weights of `data`; the condition's own stages give `conditioned` values."""
    weights = Weights(data)
    arrays: list[WaveNetArray] = []
    heads = 0
    for _, spec in config.objects("layers", MAX_STAGES, "array"):
        array = _Array(spec, weights)
        into = arrays[-1].layers[-1].conv.width_in if arrays else width
        for key, wanted in (("input_size", into), ("condition_size", conditioned)):
            if spec.integer(key, 1, MAX_WIDTH) != wanted:
                refuse(spec.where, f"{key} is {spec.data[key]}, but {wanted} values arrive there")
        if heads and heads != array.to_head:
            refuse(spec.where, f"its head sum has {array.to_head} channels, the array in front gives {heads}")
        arrays.append(array.read())
        heads = arrays[-1].head.width
    if len(arrays) * max(len(a.layers) for a in arrays) > MAX_STAGES:
        refuse(config.where, f"more than {MAX_STAGES} layers; no such model is known")
    post = _post(config, weights, heads)
    scale = float(weights.take(1)[0])
    weights.end()
    return WaveNet(tuple(arrays), scale, post, condition)


def wavenet_reach(net: WaveNet) -> int:
    """Frames before the present one that a net without its condition depends on."""
    layers = sum(layer.conv.history for array in net.arrays for layer in array.layers)
    return layers + sum(array.head.history for array in net.arrays) + sum(s.history for s in net.post if isinstance(s, Conv))


class _Array:
    """One array as the file describes it."""

    def __init__(self, spec: Fields, weights: Weights) -> None:
        self.spec, self.weights = spec, weights
        unknown = sorted(set(spec.data) - _KEYS)
        if unknown:
            refuse(spec.where, f"has settings that are not known: {shown(unknown)}", _NEWER)
        self.channels = spec.integer("channels", 1, MAX_WIDTH)
        self.bottleneck = spec.integer("bottleneck", 1, MAX_WIDTH, self.channels)
        self.condition = spec.integer("condition_size", 1, MAX_WIDTH)
        self.groups = spec.integer("groups_input", 1, MAX_WIDTH, 1)
        self.mixin_groups = spec.integer("groups_input_mixin", 1, MAX_WIDTH, 1)
        self.next, self.next_groups, _ = self._one_by_one("layer1x1", True)
        self.own_head, self.head_groups, head_width = self._one_by_one("head1x1", False)
        self.to_head = head_width if self.own_head else self.bottleneck
        if not self.next and self.bottleneck != self.channels:
            refuse(spec.where, f"a bottleneck of {self.bottleneck} without layer1x1 cannot be added to {self.channels}")
        self.dilations = [integer(d, f"{spec.where}: 'dilations'", 1, MAX_HISTORY) for d in spec.items("dilations")]
        if not 1 <= len(self.dilations) <= MAX_STAGES:
            refuse(spec.where, f"has {len(self.dilations)} layers, 1 to {MAX_STAGES} are expected")
        if ("kernel_size" in spec) == ("kernel_sizes" in spec):
            refuse(spec.where, "either 'kernel_size' or 'kernel_sizes' has to be there, not both")
        key = "kernel_sizes" if "kernel_sizes" in spec else "kernel_size"
        self.taps = [integer(k, f"{spec.where}: '{key}'", 1, MAX_HISTORY) for k in self._each(key)]

    def _one_by_one(self, key: str, active: bool) -> tuple[bool, int, int]:
        """(active, groups, outputs) of an optional convolution of one tap."""
        if key not in self.spec:
            return active, 1, self.channels
        found = self.spec.fields(key)
        groups = found.integer("groups", 1, MAX_WIDTH, 1)
        return found.flag("active", True), groups, found.integer("out_channels", 1, MAX_WIDTH, self.channels)

    def _each(self, key: str) -> list[Any]:
        """One value per layer; a single one counts for all."""
        value = self.spec.data.get(key)
        if not isinstance(value, list):
            return [value] * len(self.dilations)
        if len(value) != len(self.dilations):
            refuse(self.spec.where, f"'{key}' has {len(value)} entries for {len(self.dilations)} layers")
        return value

    def read(self) -> WaveNetArray:
        """The array with its weights."""
        spec, weights = self.spec, self.weights
        enter = weights.conv(spec.integer("input_size", 1, MAX_WIDTH), self.channels, 1, False)
        functions, gates, seconds = self._each("activation"), self._gates(), self._each("secondary_activation")
        layers = tuple(
            self._layer(taps, dilation, function, gate, second)
            for taps, dilation, function, gate, second in zip(self.taps, self.dilations, functions, gates, seconds, strict=True)
        )
        return WaveNetArray(enter, layers, self._head())

    def _gates(self) -> list[str]:
        if "gating_mode" not in self.spec:
            return ["gated" if self.spec.flag("gated", False) else ""] * len(self.dilations)
        modes = self._each("gating_mode")
        for mode in modes:
            if not isinstance(mode, str) or mode not in _GATES:
                refuse(self.spec.where, f"gating mode {shown(mode)} is not one of {', '.join(_GATES)}", _NEWER)
        return [_GATES[mode] for mode in modes]

    def _layer(self, taps: int, dilation: int, function: object, gate: str, second: object) -> WaveNetLayer:
        weights, inside = self.weights, self.bottleneck * (2 if gate else 1)
        conv = weights.conv(self.channels, inside, taps, True, dilation, self.groups)
        mixin = weights.conv(self.condition, inside, 1, False, 1, self.mixin_groups)
        to_next = weights.conv(self.bottleneck, self.channels, 1, True, 1, self.next_groups) if self.next else None
        to_head = weights.conv(self.bottleneck, self.to_head, 1, True, 1, self.head_groups) if self.own_head else None
        widths = (self.channels, inside, self.condition, inside, inside, self.bottleneck, self.channels, self.to_head)
        films = {name: film for name, width in zip(FILMS, widths, strict=True) if (film := self._film(name, width))}
        where = f"{self.spec.where}: 'activation'"
        other = f"{self.spec.where}: 'secondary_activation'"
        return WaveNetLayer(
            conv,
            mixin,
            activation(function, where, self.bottleneck),
            gate,
            activation("Sigmoid" if second is None else second, other, self.bottleneck) if gate else None,
            to_next,
            to_head,
            films,
        )

    def _film(self, name: str, width: int) -> Film | None:
        value = self.spec.data.get(name)
        if value is None or value is False:
            return None
        found = Fields(value, f"{self.spec.where}: '{name}'")
        if not found.flag("active", True):
            return None
        if (name == "layer1x1_post_film" and not self.next) or (name == "head1x1_post_film" and not self.own_head):
            refuse(found.where, "is active behind a convolution that is not")
        shift, groups = found.flag("shift", True), found.integer("groups", 1, MAX_WIDTH, 1)
        return Film(self.weights.conv(self.condition, width * (2 if shift else 1), 1, True, 1, groups), shift)

    def _head(self) -> Conv:
        if "head" in self.spec:
            head = self.spec.fields("head")
            unknown = sorted(set(head.data) - {"out_channels", "kernel_size", "bias"})
            if unknown:
                refuse(head.where, f"has settings that are not known: {shown(unknown)}", _NEWER)
            out, taps = head.integer("out_channels", 1, MAX_WIDTH), head.integer("kernel_size", 1, MAX_HISTORY)
            return self.weights.conv(self.to_head, out, taps, head.flag("bias"))
        out = self.spec.integer("head_size", 1, MAX_WIDTH)
        return self.weights.conv(self.to_head, out, 1, self.spec.flag("head_bias"))


def _post(config: Fields, weights: Weights, width: int) -> tuple[Activation | Conv, ...]:
    """What follows the last array's head."""
    if "head" not in config:
        return ()
    head = config.fields("head")
    channels, out = head.integer("channels", 1, MAX_WIDTH), head.integer("out_channels", 1, MAX_WIDTH)
    if head.integer("in_channels", 1, MAX_WIDTH, width) != width:
        refuse(head.where, f"in_channels is {head.data['in_channels']}, the last array gives {width}")
    if "kernel_sizes" in head:
        taps = [integer(k, f"{head.where}: 'kernel_sizes'", 1, MAX_HISTORY) for k in head.items("kernel_sizes")]
    else:
        taps = [head.integer("kernel_size", 1, MAX_HISTORY, 1)] * head.integer("num_layers", 1, MAX_STAGES)
    if not 1 <= len(taps) <= MAX_STAGES:
        refuse(head.where, f"has {len(taps)} layers, 1 to {MAX_STAGES} are expected")
    found: list[Activation | Conv] = []
    for index, count in enumerate(taps):
        found.append(activation(head.need("activation"), f"{head.where}: 'activation'", width))
        target = out if index == len(taps) - 1 else channels
        found.append(weights.conv(width, target, count, True))
        width = target
    return tuple(found)
