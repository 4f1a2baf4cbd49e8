"""onnxruntime's own ops, which its optimiser and its quantiser write, as ops of ONNX.

`_FAMILIES` has an entry for each op of the domain com.microsoft that is read. What is written is what the op is made of, in
the newest opset's form; where an op has no such parts, it goes under its own name without the domain. The QLinear ops become
what they stand for: dequantise, compute in float32, quantise. onnxruntime rounds some of them otherwise on the way, which may
differ by one unit of the grid.
Source: onnxruntime's ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from streamrnn.ir.graph import Attr
from streamrnn_converters.onnx.opset import ALWAYS, Rule, Upgrade, softmax_of_opset_12
from streamrnn_converters.onnx.raw import RawNode

_DOMAIN = "com.microsoft"
#: ops that onnxruntime writes without a domain, where ONNX has them in later opsets or not at all
UNDECLARED = frozenset({"LayerNormalization", "SimplifiedLayerNormalization"})

#: activations of fused ops: (op, attributes that their parameters become, in order)
_ACTIVATIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    **{name: (name, ()) for name in ("Relu", "Tanh", "Sigmoid", "Softplus", "Softsign", "HardSwish")},
    **{name: (name, ("alpha",)) for name in ("LeakyRelu", "Elu", "ThresholdedRelu")},
    "HardSigmoid": ("HardSigmoid", ("alpha", "beta")),
    "Selu": ("Selu", ("alpha", "gamma")),
    "Silu": ("Swish", ()),
}


class _Parts:
    """The nodes that take the place of one node."""

    def __init__(self, node: RawNode, up: Upgrade) -> None:
        self.base = node
        self.up = up
        self.nodes: list[RawNode] = []

    def given(self, index: int) -> str:
        """Input `index` of the node, "" where it is omitted."""
        return self.base.inputs[index] if index < len(self.base.inputs) else ""

    def wanted(self, index: int) -> str:
        """Output `index` of the node, "" where it is not wanted."""
        return self.base.outputs[index] if index < len(self.base.outputs) else ""

    def add(self, op: str, *inputs: str, **attrs: Attr) -> str:
        """A node with one output; its name."""
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        result = self.up.value(self.base, op)
        self.nodes.append(self.up.node(self.base, op, inputs, [result], **attrs))
        return result

    def sum(self, *values: str) -> str:
        """The sum of those values that are not omitted."""
        found, *others = [value for value in values if value]
        for other in others:
            found = self.add("Add", found, other)
        return found

    def number(self, what: str, value: float) -> str:
        return self.up.constant(self.base, what, value, np.float32)

    def end(self, value: str) -> list[RawNode]:
        """All nodes, the last of which gives output 0; `value` is what it should be."""
        last = self.nodes[-1]
        assert last.outputs == (value,)
        self.nodes[-1] = replace(last, outputs=(self.base.outputs[0],))
        return self.nodes

    def refused(self, reason: str) -> list[RawNode]:
        return [replace(self.base, problem=reason)]


_Recipe = Callable[[_Parts], list[RawNode]]


def _attrs(node: RawNode, *names: str) -> dict[str, Attr]:
    """The node's attributes without some."""
    return {key: value for key, value in node.attrs.items() if key not in names}


def _under(op: str) -> _Recipe:
    """The same op without the domain."""
    return lambda p: [replace(p.base, op=op)]


# -- activations and normalisations ---------------------------------------------------------------------------------------


def _gelu(approximate: str) -> _Recipe:
    """Gelu of the sum of the inputs."""

    def recipe(p: _Parts) -> list[RawNode]:
        return p.end(p.add("Gelu", p.sum(p.given(0), p.given(1)), approximate=approximate))

    return recipe


def _quick_gelu(p: _Parts) -> list[RawNode]:
    return p.end(p.add("Swish", p.given(0), alpha=p.base.attrs.get("alpha", 1.702)))


def _simplified(p: _Parts) -> list[RawNode]:
    if p.wanted(1):
        return p.refused("its second output is not supported; save the model without training in mind")
    return [replace(p.base, op="RMSNormalization", outputs=p.base.outputs[:1])]


def _skip_norm(op: str, parameters: tuple[int, ...], bias: int) -> _Recipe:
    """`op` of input + skip + bias; output 3 is that sum. parameters: indices of the inputs that `op` takes."""

    def recipe(p: _Parts) -> list[RawNode]:
        if p.wanted(1) or p.wanted(2):
            return p.refused("its outputs mean and inv_std_var are not supported; save the model without training in mind")
        total = p.sum(p.given(0), p.given(1), p.given(bias))
        if p.wanted(3):
            p.nodes[-1] = replace(p.nodes[-1], outputs=(p.wanted(3),))
            total = p.wanted(3)
        epsilon = p.base.attrs.get("epsilon", 1e-12)
        return p.end(p.add(op, total, *(p.given(k) for k in parameters), axis=-1, epsilon=epsilon))

    return recipe


# -- linear ---------------------------------------------------------------------------------------------------------------


def _activated(p: _Parts, value: str, parameters: Sequence[Attr]) -> list[RawNode]:
    """The nodes so far, followed by the activation that the node names."""
    name = str(p.base.attrs.get("activation", "") or "")
    if not name:
        return p.end(value)
    if name == "Clip" and len(parameters) == 2:
        low, high = (p.up.constant(p.base, what, v, np.float32) for what, v in zip(("min", "max"), parameters, strict=True))
        return p.end(p.add("Clip", value, low, high))
    if name not in _ACTIVATIONS:
        return p.refused(f"its activation {name} is not supported; save the model without onnxruntime's optimisations")
    op, names = _ACTIVATIONS[name]
    return p.end(p.add(op, value, **dict(zip(names, parameters, strict=False))))


def _fused_conv(p: _Parts) -> list[RawNode]:
    y = p.add("Conv", p.given(0), p.given(1), p.given(2), **_attrs(p.base, "activation", "activation_params"))
    parameters = p.base.attrs.get("activation_params") or ()
    assert isinstance(parameters, tuple)
    return _activated(p, p.sum(y, p.given(3)), parameters)


_PARAMETERS = ("activation_alpha", "activation_beta", "activation_gamma")


def _fused(op: str) -> _Recipe:
    """`op` followed by an activation with parameters of its own."""

    def recipe(p: _Parts) -> list[RawNode]:
        y = p.add(op, *p.base.inputs, **_attrs(p.base, "activation", "activation_axis", *_PARAMETERS))
        # each activation has the first of alpha, beta, gamma that the table names
        names = _ACTIVATIONS.get(str(p.base.attrs.get("activation")), ("", ()))[1]
        given = {name: p.base.attrs.get(f"activation_{name}") for name in names}
        return _activated(p, y, [value for value in given.values() if value is not None])

    return recipe


# -- quantised --------------------------------------------------------------------------------------------------------


def _scaled_product(p: _Parts, a: str, b: str, zeros: tuple[str, str], scales: tuple[str, str], bias: str) -> list[RawNode]:
    """(a - a zero) (b - b zero) * (a scale * b scale) + bias, in float32."""
    product = p.add("Cast", p.add("MatMulInteger", a, b, *zeros), to="float32")
    y = p.add("Mul", product, p.add("Mul", *scales))
    return p.end(p.sum(y, bias))


def _integer_to_float(p: _Parts) -> list[RawNode]:
    return _scaled_product(p, p.given(0), p.given(1), (p.given(4), p.given(5)), (p.given(2), p.given(3)), p.given(6))


def _dynamic_matmul(p: _Parts) -> list[RawNode]:
    q, scale, zero = (p.up.value(p.base, what) for what in ("q", "scale", "zero"))
    p.nodes.append(p.up.node(p.base, "DynamicQuantizeLinear", [p.given(0)], [q, scale, zero]))
    return _scaled_product(p, q, p.given(1), (zero, p.given(3)), (scale, p.given(2)), p.given(4))


def _q_gemm(p: _Parts) -> list[RawNode]:
    a, a_scale, a_zero, b, b_scale, b_zero, c, y_scale, y_zero = (p.given(k) for k in range(9))
    operands = [p.add("Transpose", v, perm=(1, 0)) if p.base.attrs.get(k, 0) else v for v, k in ((a, "transA"), (b, "transB"))]
    total = p.sum(p.add("MatMulInteger", *operands, a_zero, b_zero), c)
    scale = p.add("Mul", a_scale, b_scale)
    alpha = p.base.attrs.get("alpha", 1.0)
    if alpha != 1.0:
        assert isinstance(alpha, float)
        scale = p.add("Mul", scale, p.number("alpha", alpha))
    if y_scale:
        scale = p.add("Div", scale, y_scale)
    y = p.add("Mul", p.add("Cast", total, to="float32"), scale)
    return p.end(p.add("QuantizeLinear", y, p.number("one", 1.0), y_zero) if y_scale else y)


def _real(p: _Parts, first: int) -> str:
    """The quantised input `first`, whose scale and zero point follow it, as float32."""
    return p.add("DequantizeLinear", p.given(first), p.given(first + 1), p.given(first + 2))


def _quantised(p: _Parts, value: str, scale: int) -> list[RawNode]:
    """`value` on the grid whose scale and zero point are inputs `scale` and the one behind it; without one it is uint8."""
    return p.end(p.add("QuantizeLinear", value, p.given(scale), p.given(scale + 1)))


def _linear(op: str) -> _Recipe:
    """`op` of one quantised input."""
    return lambda p: _quantised(p, p.add(op, _real(p, 0), **p.base.attrs), 3)


def _any_layout(recipe: _Recipe) -> _Recipe:
    """A recipe for channels on axis 1, for a node that may have them last (`channels_last`)."""

    def moved(p: _Parts) -> list[RawNode]:
        plain = replace(p.base, attrs=_attrs(p.base, "channels_last"))
        if not p.base.attrs.get("channels_last", 0):
            return recipe(_Parts(plain, p.up))
        kernel, W = p.base.attrs.get("kernel_shape"), p.up.constants.get(p.given(3))
        rank = len(kernel) + 2 if isinstance(kernel, tuple) else 0 if W is None else W.ndim
        if rank < 3:
            return p.refused(
                "channels_last=1 is not supported where the node does not show how many dimensions its input has; "
                "save the model at ORT_ENABLE_EXTENDED, which leaves the layout alone"
            )
        x = p.add("Transpose", p.given(0), perm=(0, rank - 1, *range(1, rank - 1)))
        y = p.up.value(p.base, "channels_first")
        inner = replace(plain, inputs=(x, *p.base.inputs[1:]), outputs=(y,))
        p.nodes += recipe(_Parts(inner, p.up))
        return p.end(p.add("Transpose", y, perm=(0, *range(2, rank), 1)))

    return moved


def _linear_pair(op: str) -> _Recipe:
    return lambda p: _quantised(p, p.add(op, _real(p, 0), _real(p, 3)), 6)


def _linear_concat(p: _Parts) -> list[RawNode]:
    inputs = [_real(p, first) for first in range(2, len(p.base.inputs), 3)]
    return _quantised(p, p.add("Concat", *inputs, **p.base.attrs), 0)


def _linear_softmax(p: _Parts) -> list[RawNode]:
    opset = p.base.attrs.get("opset", 13)
    y = p.add("Softmax", _real(p, 0), axis=p.base.attrs.get("axis", -1))
    if isinstance(opset, int) and opset < 13:
        p.nodes[-1:] = softmax_of_opset_12(p.nodes[-1], p.up)
    # onnxruntime's kernel cuts the reciprocal of its scale to an integer
    steps = p.add("Mul", y, p.add("Floor", p.add("Reciprocal", p.given(3))))
    return p.end(p.add("QuantizeLinear", steps, p.number("one", 1.0), p.given(4)))


def _linear_where(p: _Parts) -> list[RawNode]:
    return _quantised(p, p.add("Where", p.given(0), _real(p, 1), _real(p, 4)), 7)


_FAMILIES: dict[str, dict[str, _Recipe]] = {
    "activations": {
        "Gelu": _gelu("none"),
        "BiasGelu": _gelu("none"),
        "FastGelu": _gelu("tanh"),
        "QuickGelu": _quick_gelu,
    },
    "normalisations": {
        "SkipLayerNormalization": _skip_norm("LayerNormalization", (2, 3), 4),
        "SkipSimplifiedLayerNormalization": _skip_norm("RMSNormalization", (2,), 3),
    },
    "linear": {
        "FusedConv": _fused_conv,
        "FusedGemm": _fused("Gemm"),
        "FusedMatMul": _under("FusedMatMul"),
        "FusedMatMulActivation": _fused("FusedMatMul"),
        "TransposeMatMul": _under("FusedMatMul"),
    },
    "quantised": {
        "QuantizeLinear": _under("QuantizeLinear"),
        "DequantizeLinear": _under("DequantizeLinear"),
        "DynamicQuantizeLSTM": _under("DynamicQuantizeLSTM"),
        "DynamicQuantizeMatMul": _dynamic_matmul,
        "MatMulIntegerToFloat": _integer_to_float,
        "QGemm": _q_gemm,
        "QLinearAdd": _linear_pair("Add"),
        "QLinearMul": _linear_pair("Mul"),
        "QLinearSigmoid": _linear("Sigmoid"),
        "QLinearLeakyRelu": _linear("LeakyRelu"),
        "QLinearAveragePool": _any_layout(_linear("AveragePool")),
        "QLinearGlobalAveragePool": _any_layout(_linear("GlobalAveragePool")),
        "QLinearConcat": _linear_concat,
        "QLinearSoftmax": _linear_softmax,
        "QLinearWhere": _linear_where,
        "QLinearConv": _any_layout(_under("QLinearConv")),
    },
}


def _rule(name: str, recipe: _Recipe) -> Rule:
    def rewrite(node: RawNode, up: Upgrade) -> list[RawNode]:
        return recipe(_Parts(node, up))

    return Rule((name,), ALWAYS, rewrite)


RULES = (
    _rule("SimplifiedLayerNormalization", _simplified),
    *(_rule(f"{_DOMAIN}.{name}", recipe) for recipes in _FAMILIES.values() for name, recipe in recipes.items()),
)
#: family -> names of its ops in onnxruntime's domain, for the list of what is supported
FAMILIES = {family: tuple(sorted(recipes)) for family, recipes in _FAMILIES.items()}


def contrib_names() -> list[str]:
    """What is read of onnxruntime's domain, each with it: "com.microsoft.Gelu"."""
    return sorted(f"{_DOMAIN}.{name}" for names in FAMILIES.values() for name in names)
