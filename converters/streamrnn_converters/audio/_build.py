"""AudioModel -> sequence Graph -> step Graph, through the ops and passes that ONNX models take.

A wire is [1, channels, time], so that a dense layer is a convolution of one tap and everything pointwise stays as it is;
recurrent ops get time in front, which in a step is a view. Time is `CLIP` frames long until `streamify` takes it out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import streamrnn.ops  # noqa: F401  fills the op table
from streamrnn.ir.graph import Array, Attr, Graph, Node
from streamrnn.ir.graph import Stage as GraphStage
from streamrnn.ir.types import DType, TensorType
from streamrnn.ir.verify import infer_node, site_of, verify
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
from streamrnn_converters.names import Names
from streamrnn_converters.passes import Pipeline

#: frames of the clip on which types are inferred; no step graph depends on it
CLIP = 1009
OUTPUT = "output"
_TIME = 2


def step_graph(model: AudioModel, pipeline: Pipeline) -> Graph:
    """One step is one frame: the sequence graph of `model` through declutter, streamify, align, absorb and fuse."""
    graph = pipeline.run("finite", sequence_graph(model))
    axes = dict.fromkeys(graph.inputs, _TIME)
    graph = pipeline.streamify(pipeline.run("declutter", graph), axes, 1)
    meta = {
        "mode": "frame",
        "mode_reason": "audio formats are played sample by sample",
        "time_axes": axes,
        "format": model.format,
        **model.meta,
    }
    for key, width in (("channels_in", model.inputs[0][1]), ("channels_out", graph.types[OUTPUT].shape[1])):
        if width > 1:
            meta[key] = width
    if model.prewarm:
        meta["prewarm_samples"] = model.prewarm
    return graph.replace(meta={**graph.meta, **meta})


def sequence_graph(model: AudioModel) -> Graph:
    """The model on a clip of `CLIP` frames, typed and verified."""
    return _built(model)[0]


def wires(model: AudioModel) -> list[str]:
    """The values of that graph that stand behind the layers, in the order of `oracle.layers`."""
    return _built(model)[1]


def _built(model: AudioModel) -> tuple[Graph, list[str]]:
    b = _Builder()
    parts = [b.input(name, width) for name, width in model.inputs]
    signal = parts[0] if model.in_gain == 1.0 else b.scaled(parts[0], model.in_gain, "in_gain")
    x = signal if len(parts) == 1 else b.node("Concat", "frame", (signal, *parts[1:]), axis=1)
    y = b.stages(model.stages, x)
    if model.skip:
        y = b.node("Add", "skip", (y, signal))
    if model.out_gain != 1.0:
        y = b.scaled(y, model.out_gain, "out_gain")
    b.nodes.append(Node("Identity", "result", (y,), (OUTPUT,)))
    b.types[OUTPUT] = b.types[y]
    names = tuple(name for name, _ in model.inputs)
    graph = Graph(model.name, GraphStage.SEQUENCE, names, (OUTPUT,), tuple(b.nodes), b.types, b.constants)
    return verify(graph), b.seen


class _Builder:
    """Nodes as they are added; each is typed at once."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.types: dict[str, TensorType] = {}
        self.constants: dict[str, Array] = {}
        self.names = Names([OUTPUT, "result"])
        self.seen: list[str] = []

    # -- nodes --------------------------------------------------------------------------------------------------------

    def input(self, name: str, width: int) -> str:
        self.names.take(name)
        self.types[name] = TensorType(DType.F32, (1, width, CLIP))
        return name

    def constant(self, array: Array, hint: str) -> str:
        name = self.names.fresh(hint)
        self.constants[name] = array = np.ascontiguousarray(array)
        self.types[name] = TensorType.of(array)
        return name

    def node(self, op: str, hint: str, inputs: tuple[str, ...], **attrs: Attr) -> str:
        """Add a node; the name of its first output."""
        return self.outputs(op, hint, inputs, 1, attrs)[0]

    def outputs(self, op: str, hint: str, inputs: tuple[str, ...], count: int, attrs: Mapping[str, Attr]) -> tuple[str, ...]:
        """Add a node; the names of its outputs. Its own name is `hint`, numbered where that is taken."""
        name = self.names.fresh(hint)
        found = tuple(self.names.fresh(f"{name}.out{k}" if k else f"{name}.out") for k in range(count))
        node = Node(op, name, inputs, found, attrs)
        graph = Graph("", GraphStage.SEQUENCE, (), (), (), self.types, self.constants)
        infer_node(self.types, site_of(graph, node))
        self.nodes.append(node)
        return found

    def scaled(self, x: str, factor: float, hint: str) -> str:
        return self.node("Mul", hint, (x, self.constant(np.array(factor, np.float32), f"{hint}.factor")))

    def width(self, x: str) -> int:
        return self.types[x].shape[1]

    # -- stages -------------------------------------------------------------------------------------------------------

    def stages(self, stages: tuple[Stage, ...], x: str) -> str:
        for stage in stages:
            x = self.stage(stage, x)
            self.seen.append(self._of_cell(x) if isinstance(stage, Lstm | Gru) else x)
        return x

    def _of_cell(self, x: str) -> str:
        """What the recurrent op itself gives for `x`: the moves behind it may be gone from the step graph."""
        flat, channels = self.nodes[-2:]
        assert channels.outputs == (x,)
        return flat.inputs[0]

    def stage(self, stage: Stage, x: str) -> str:
        if isinstance(stage, Conv):
            return self.conv(stage, x)
        if isinstance(stage, Conv2d):
            return self.conv2d(stage, x)
        if isinstance(stage, Lstm):
            return self.lstm(stage, x)
        if isinstance(stage, Gru):
            return self.gru(stage, x)
        if isinstance(stage, BatchNorm):
            return self.batchnorm(stage, x)
        if isinstance(stage, WaveNet):
            return self.wavenet(stage, x)
        return _ACTIVATIONS[stage.kind](self, stage, x)

    def conv(self, stage: Conv, x: str, hint: str = "conv") -> str:
        hint = "dense" if stage.weight.shape[2] == 1 and hint == "conv" else hint
        inputs = [x, self.constant(stage.weight, f"{hint}.weight")]
        if stage.bias is not None:
            inputs.append(self.constant(stage.bias, f"{hint}.bias"))
        return self.node(
            "Conv", hint, tuple(inputs),
            pads=(stage.history, 0), dilations=(stage.dilation,), strides=(stage.stride,), group=stage.groups,
        )  # fmt: skip

    def conv2d(self, stage: Conv2d, x: str) -> str:
        frames = self.types[x].shape[_TIME]
        filters = stage.weight.shape[1]
        split = self.node("Transpose", "frames", (x,), perm=(0, 2, 1))
        shape = self.constant(np.array([1, frames, stage.features, filters]), "features.shape")
        grid = self.node("Transpose", "filters", (self.node("Reshape", "features", (split, shape)),), perm=(0, 3, 1, 2))
        inputs = [grid, self.constant(stage.weight, "conv2d.weight")]
        if stage.bias is not None:
            inputs.append(self.constant(stage.bias, "conv2d.bias"))
        before, behind = stage.pads
        y = self.node(
            "Conv", "conv2d", tuple(inputs),
            pads=(stage.history, before, 0, behind), dilations=(stage.dilation, 1), strides=(1, stage.stride),
        )  # fmt: skip
        rows = self.node("Transpose", "rows", (y,), perm=(0, 2, 3, 1))
        flat = self.node("Reshape", "flat", (rows, self.constant(np.array([1, frames, stage.width]), "flat.shape")))
        return self.node("Transpose", "channels", (flat,), perm=(0, 2, 1))

    def lstm(self, stage: Lstm, x: str) -> str:
        order = _rows(stage.width, (0, 3, 1, 2))  # i, f, g, o -> i, o, f, g
        bias = np.concatenate([stage.bias[order], np.zeros_like(stage.bias)])
        weights = {"W": stage.w_in[order], "R": stage.w_rec[order], "B": bias}
        states = {"h0": stage.h0[None], "c0": stage.c0[None]} if stage.h0.any() or stage.c0.any() else {}
        return self.recurrent("LSTM", weights, states, x, hidden_size=stage.width)

    def gru(self, stage: Gru, x: str) -> str:
        order = _rows(stage.width, tuple("zrn".index(gate) for gate in stage.gates))
        weights = {
            "W": stage.w_in[order],
            "R": stage.w_rec[order],
            "B": np.concatenate([stage.b_in[order], stage.b_rec[order]]),
        }
        return self.recurrent("GRU", weights, {}, x, hidden_size=stage.width, linear_before_reset=1)

    def recurrent(self, op: str, weights: Mapping[str, Array], states: Mapping[str, Array], x: str, **attrs: Attr) -> str:
        """A recurrent op of one direction; `states`: the initial ones where they are not zero."""
        hint = op.lower()
        first = self.node("Transpose", f"{hint}.in", (x,), perm=(2, 0, 1))
        inputs = [first, *(self.constant(array[None], f"{hint}.{key}") for key, array in weights.items())]
        if states:
            inputs += ["", *(self.constant(array[None], f"{hint}.{key}") for key, array in states.items())]
        y = self.node(op, hint, tuple(inputs), **attrs)
        flat = self.node("Squeeze", f"{hint}.flat", (y, self.constant(np.array([1]), f"{hint}.axis")))
        return self.node("Transpose", f"{hint}.channels", (flat,), perm=(1, 2, 0))

    def batchnorm(self, stage: BatchNorm, x: str) -> str:
        arrays = {"scale": stage.scale, "shift": stage.shift, "mean": stage.mean, "variance": stage.variance}
        inputs = (x, *(self.constant(array, f"norm.{key}") for key, array in arrays.items()))
        return self.node("BatchNormalization", "norm", inputs, epsilon=stage.epsilon)

    # -- wavenet ------------------------------------------------------------------------------------------------------

    def wavenet(self, net: WaveNet, x: str) -> str:
        condition, head = self.stages(net.condition, x), ""
        for array in net.arrays:
            x = self.conv(array.enter, x, "enter")
            self.seen.append(x)
            for layer in array.layers:
                x, given = self.layer(layer, x, condition)
                head = self.node("Add", "head_sum", (head, given)) if head else given
                self.seen.append(x)
            head = self.conv(array.head, head, "head")
            self.seen.append(head)
        y = self.scaled(head, net.scale, "head_scale")
        return self.stages(net.post, y)

    def layer(self, layer: WaveNetLayer, x: str, condition: str) -> tuple[str, str]:
        """(what the next layer sees, what the head gets)"""

        def film(name: str, value: str) -> str:
            found = layer.films.get(name)
            return value if found is None else self.film(found, value, condition)

        mixed = self.conv(layer.mixin, film("input_mixin_pre_film", condition), "mixin")
        conv = film("conv_post_film", self.conv(layer.conv, film("conv_pre_film", x), "layer"))
        z = self.node("Add", "mix", (conv, film("input_mixin_post_film", mixed)))
        z = film("activation_post_film", self.gated(layer, film("activation_pre_film", z)))
        given, following = z, x
        if layer.to_head is not None:
            given = film("head1x1_post_film", self.conv(layer.to_head, z, "to_head"))
        if layer.to_next is not None:
            added = film("layer1x1_post_film", self.conv(layer.to_next, z, "to_next"))
            following = self.node("Add", "residual", (x, added))
        return following, given

    def gated(self, layer: WaveNetLayer, z: str) -> str:
        if not layer.gate:
            return self.stage(layer.activation, z)
        assert layer.second is not None
        first, second = self.halves(z)
        active, gate = self.stage(layer.activation, first), self.stage(layer.second, second)
        if layer.gate == "gated":
            return self.node("Mul", "gate", (active, gate))
        moved = self.node("Sub", "blend.difference", (active, first))
        return self.node("Add", "blend", (first, self.node("Mul", "blend.share", (gate, moved))))

    def film(self, film: Film, x: str, condition: str) -> str:
        given = self.conv(film.conv, condition, "film")
        if not film.shift:
            return self.node("Mul", "film.scaled", (x, given))
        scale, shift = self.halves(given)
        return self.node("Add", "film.shifted", (self.node("Mul", "film.scaled", (x, scale)), shift))

    def halves(self, x: str) -> tuple[str, str]:
        half = self.width(x) // 2
        sizes = self.constant(np.array([half, half]), "halves.sizes")
        first, second = self.outputs("Split", "halves", (x, sizes), 2, {"axis": 1})
        return first, second

    # -- activations ----------------------------------------------------------------------------------------------------

    def number(self, value: float) -> str:
        return self.constant(np.array(value, np.float32), "number")


def _rows(width: int, order: tuple[int, ...]) -> Array:
    """Indices that put blocks of `width` rows into another order."""
    return np.concatenate([np.arange(k * width, (k + 1) * width) for k in order])


def _plain(op: str, **attrs: Any) -> Callable[[_Builder, Activation, str], str]:
    return lambda b, a, x: b.node(op, op.lower(), (x,), **attrs)


def _prelu(b: _Builder, a: Activation, x: str) -> str:
    assert a.slopes is not None
    return b.node("PRelu", "prelu", (x, b.constant(a.slopes.reshape(-1, 1), "prelu.slopes")))


def _hardtanh(b: _Builder, a: Activation, x: str) -> str:
    return b.node("Clip", "hardtanh", (x, b.number(a.numbers["min_val"]), b.number(a.numbers["max_val"])))


def _leakyhardtanh(b: _Builder, a: Activation, x: str) -> str:
    """clip(x) + slope * what lies beyond, on either side."""
    inner = _hardtanh(b, a, x)
    beyond = b.node("Sub", "beyond", (x, inner))
    zero = b.number(0.0)
    for pick, slope in (("Min", "min_slope"), ("Max", "max_slope")):
        part = b.node("Mul", "slope", (b.node(pick, "side", (beyond, zero)), b.number(a.numbers[slope])))
        inner = b.node("Add", "leaky", (inner, part))
    return inner


def _softsigmoid(b: _Builder, a: Activation, x: str) -> str:
    half = b.number(0.5)
    return b.node("Add", "softsigmoid", (b.node("Mul", "half", (b.node("Softsign", "softsign", (x,)), half)), half))


def _fasttanh(b: _Builder, a: Activation, x: str) -> str:
    """The rational function that the player calls "Fasttanh"."""
    p, q, r, s, t = map(b.number, (2.45550750702956, 0.893229853513558, 0.821226666969744, 2.44506634652299, 0.814642734961073))

    def op(name: str, *inputs: str) -> str:
        return b.node(name, "fasttanh", inputs)

    size, square = op("Abs", x), op("Mul", x, x)
    above = op("Add", op("Add", p, op("Mul", p, size)), op("Mul", op("Add", q, op("Mul", r, size)), square))
    inner = op("Abs", op("Add", x, op("Mul", op("Mul", t, x), size)))
    return op("Div", op("Mul", x, above), op("Add", s, op("Mul", op("Add", s, square), inner)))


_ACTIVATIONS: Mapping[str, Callable[[_Builder, Activation, str], str]] = {
    "tanh": _plain("Tanh"), "relu": _plain("Relu"), "sigmoid": _plain("Sigmoid"), "softmax": _plain("Softmax", axis=1),
    "softsign": _plain("Softsign"), "hardswish": _plain("HardSwish"),
    "silu": lambda b, a, x: b.node("Mul", "silu", (x, b.node("Sigmoid", "silu.gate", (x,)))),
    "elu": lambda b, a, x: b.node("Elu", "elu", (x,), alpha=a.numbers.get("alpha", 1.0)),
    "leakyrelu": lambda b, a, x: b.node("LeakyRelu", "leakyrelu", (x,), alpha=a.numbers["negative_slope"]),
    "prelu": _prelu, "hardtanh": _hardtanh, "leakyhardtanh": _leakyhardtanh, "softsigmoid": _softsigmoid, "fasttanh": _fasttanh,
}  # fmt: skip
