"""Pointwise ops keep the contract of ops; broadcasting, element types and special values."""

from __future__ import annotations

import numpy as np
import pytest
from contract import Case, Contract, as_dict, close, floats, onnxruntime_outputs
from streamrnn_converters.passes.fuse import fuse

from streamrnn import Engine, Stream
from streamrnn.errors import GraphError, NotStreamableError, ShapeError, UnsupportedError
from streamrnn.ir.graph import Array, Attr, Graph, Node, Stage
from streamrnn.ir.op import Site, Streamed
from streamrnn.ir.types import StreamType, TensorType
from streamrnn.ir.verify import infer_node, verify
from streamrnn.ops._time import join
from streamrnn.ops.pointwise_table import EXPANSIONS, PARTS, ROWS

T = 6
_SHAPE = (T, 5)
X, Y = floats(1, *_SHAPE), floats(2, *_SHAPE)
POSITIVE = np.abs(floats(3, *_SHAPE)) + np.float32(0.1)
UNIT = np.tanh(floats(4, *_SHAPE))
ROUNDED = np.round(floats(5, *_SHAPE, scale=3) * 2) / np.float32(2)
MASK = X > 0
INTS = np.random.default_rng(6).integers(-9, 9, _SHAPE)
NONZERO = np.where(INTS == 0, 3, INTS[::-1])
NONZERO[NONZERO == 0] = -2
UNSIGNED = np.random.default_rng(7).integers(0, 256, _SHAPE).astype(np.uint8)


def unary(op: str, x: Array = X, **attrs: Attr) -> Case:
    return Case(op, (x,), attrs, time={0: 0})


def binary(op: str, a: Array = X, b: Array = Y, **attrs: Attr) -> Case:
    return Case(op, (a, b), attrs, live=(0, 1), time={0: 0, 1: 0})


_UNARY = [
    *(unary(op) for op in ("Neg", "Abs", "Sign", "Exp", "Erf", "Floor", "Ceil", "Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh")),
    *(unary(op) for op in ("Asinh", "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "HardSwish", "Gelu")),
    *(unary(op) for op in ("Mish", "Tanh", "Softplus", "Softsign", "ThresholdedRelu", "Identity", "IsNaN", "IsInf")),
    *(unary(op, POSITIVE) for op in ("Sqrt", "Log", "Reciprocal")),
    *(unary(op, UNIT) for op in ("Asin", "Acos", "Atanh")),
    unary("Acosh", POSITIVE + np.array(1, "float32")),
    unary("Round", ROUNDED),
    unary("Not", MASK),
    *(unary(op, INTS) for op in ("Neg", "Abs", "Sign", "BitwiseNot")),
    unary("LeakyRelu", alpha=0.3),
    unary("Elu", alpha=2.0),
    unary("Celu", alpha=0.4),
    unary("Selu", alpha=1.5, gamma=0.7),
    unary("HardSigmoid", alpha=0.4, beta=0.1),
    unary("ThresholdedRelu", alpha=0.2),
    unary("Gelu", approximate="tanh"),
    unary("IsInf", detect_negative=0),
    # newer than the opset of the contract's onnxruntime models
    Case("Swish", (X,), {"alpha": 1.7}, time={0: 0}, onnx=False),
]

_BINARY = [
    *(binary(op) for op in ("Add", "Sub", "Mul", "Div", "Min", "Max", "Mean", "Sum", "PRelu", "Less", "Greater")),
    *(binary(op, ROUNDED, np.abs(ROUNDED)) for op in ("Equal", "LessOrEqual", "GreaterOrEqual")),
    *(binary(op, INTS, NONZERO) for op in ("Add", "Sub", "Mul", "Div", "Mod", "Min", "Max", "Equal", "Less", "Greater")),
    *(binary(op, MASK, MASK[::-1].copy()) for op in ("And", "Or", "Xor", "Equal")),
    *(binary(op, INTS, NONZERO) for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")),
    *(binary("BitShift", UNSIGNED, UNSIGNED % np.uint8(11), direction=way) for way in ("LEFT", "RIGHT")),
    binary("Pow", POSITIVE),
    binary("Pow", X, np.abs(INTS)),
    binary("Pow", INTS, np.abs(INTS)),
    binary("Pow", np.abs(INTS), np.abs(ROUNDED)),
    binary("Mod", X, Y, fmod=1),
    binary("Mod", INTS, NONZERO, fmod=1),
    Case("Pow", (X, np.array(2, "float32")), time={0: 0}),
    Case("Pow", (X, np.array([3])), time={0: 0}),
    Case("Pow", (X, np.float32(0.5) + np.zeros(5, np.float32)), onnx=False, live=(1,)),
]

_MANY = [
    *(Case(op, (X, Y, UNIT[0], POSITIVE), live=(0, 1, 3), time={0: 0, 1: 0, 3: 0}) for op in ("Min", "Max", "Mean", "Sum")),
    *(unary(op) for op in ("Min", "Max", "Mean", "Sum")),
    Case("Where", (MASK, X, Y), live=(0, 1, 2), time={0: 0, 1: 0, 2: 0}),
    Case("Where", (MASK, INTS, NONZERO), live=(0, 1, 2), time={0: 0, 1: 0, 2: 0}),
    Case("Clip", (X, np.array(-0.5, "float32"), np.array(0.7, "float32")), time={0: 0}),
    Case("Clip", (X, None, np.array(0.7, "float32")), time={0: 0}),
    Case("Clip", (X, np.array(-0.5, "float32")), time={0: 0}),
    Case("Clip", (X,), time={0: 0}),
    Case("Clip", (INTS, np.array(-3, "int64"), np.array(4, "int64")), time={0: 0}),
]

_FUSED = [
    Case("Fused", (X, Y), {"body": ("Mul 0 1", "LeakyRelu 2 =0.2", "Add 3 0", "Less 4 1")}, live=(0, 1), onnx=False),
    Case("Fused", (X, Y[0]), {"body": ("Mul 0 1", "Cast.int64 2", "Cast.float32 3", "Tanh 4")}, time={0: 0}, onnx=False),
]


class TestPointwise(Contract):
    cases = [*_UNARY, *_BINARY, *_MANY, *_FUSED]  # noqa: RUF012


def test_every_pointwise_op_has_a_case() -> None:
    tested = {case.op for case in TestPointwise.cases}
    assert tested == {"Fused", *ROWS, *EXPANSIONS} - PARTS - {"Cast"}  # test_element_types has Cast


def compiled(case: Case) -> Array:
    """What the machine code gives for the case's live inputs."""
    engine = case.engine
    live = {
        n: a.reshape(engine.inputs[n].shape)
        for k, n in enumerate(case.names)
        if case.fed(k) and (a := case.inputs[k]) is not None
    }
    return as_dict(engine, Stream(engine).step(live))["o0"].reshape(case.site().out(0).shape)


# -- special values ---------------------------------------------------------------------------------------------------

SPECIAL = np.array(
    [
        0.0, -0.0, 1, -1, 0.5, -0.5, 1.5, 2.5, -2.5, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 1e-30, -1e-30, 3e38, -3e38,
        100, -100, 88.9, -104, 8388609, 4194305.5, 1e10, -30,
    ],
    np.float32,
)  # fmt: skip
_PAIRS = tuple(np.ascontiguousarray(a) for a in np.meshgrid(SPECIAL, SPECIAL))
_BOUNDS = (np.array(-1, "float32"), np.array(2, "float32"))
_SPECIAL_CASES = [
    *(Case(c.op, (SPECIAL,), c.attrs, onnx=c.onnx) for c in _UNARY if c.inputs[0] is X),
    *(Case(op, (SPECIAL,)) for op in ("Sqrt", "Log", "Reciprocal", "Asin", "Acos", "Acosh", "Atanh", "Round")),
    *(Case(c.op, _PAIRS, c.attrs, live=(0, 1)) for c in _BINARY if c.inputs[0] is X and c.inputs[1] is Y and c.op != "Mean"),
    *(Case(op, _PAIRS, live=(0, 1)) for op in ("Pow", "Equal", "LessOrEqual", "GreaterOrEqual")),
    Case("Clip", (SPECIAL, *_BOUNDS)),
]


@pytest.mark.parametrize("example", _SPECIAL_CASES, ids=str)
def test_special_values_are_those_of_the_formula_and_of_onnxruntime(example: Case) -> None:
    found = compiled(example)
    with np.errstate(all="ignore"):
        close(found, example.reference[0].astype(found.dtype), example.impl, "compiled against the formula")
    if example.onnx:
        close(found, onnxruntime_outputs(example)[0], example.impl, "compiled against onnxruntime")


# -- shapes -----------------------------------------------------------------------------------------------------------

_SHAPES = [
    ((), ()),
    ((), (3,)),
    ((4,), ()),
    ((1,), (5,)),
    ((2, 3), (3,)),
    ((3,), (2, 3)),
    ((2, 1), (1, 3)),
    ((2, 3, 4), (3, 1)),
    ((2, 1, 4), (3, 1)),
    ((2, 3, 4), (2, 1, 1)),
    ((1, 1, 1), (1, 1)),
    ((2, 3, 4, 5), (1, 3, 1, 5)),
    ((5, 1, 4, 1), (3, 1, 6)),
    ((0,), (1,)),
    ((2, 0, 3), (3,)),
    ((0, 1), (1, 4)),
]


@pytest.mark.parametrize(("first", "second"), _SHAPES, ids=str)
def test_broadcasting_is_numpys(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    a, b = np.asarray(floats(1, *first)), np.asarray(floats(2, *second))
    case = Case("Sub", (a, b), live=(0, 1))
    np.testing.assert_array_equal(compiled(case), a - b)


def test_three_inputs_broadcast_against_each_other() -> None:
    mask, a, b = floats(1, 2, 1, 4) > 0, floats(2, 3, 1), floats(3)
    found = compiled(Case("Where", (mask, a, np.asarray(b)), live=(0, 1, 2)))
    np.testing.assert_array_equal(found, np.where(mask, a, b))


def test_an_unused_input_still_widens_the_shape() -> None:
    case = Case("Pow", (X[0], np.full((3, 1), 2, np.float32)))
    np.testing.assert_allclose(compiled(case), np.broadcast_to(X[0] ** 2, (3, 5)), rtol=1e-6)
    assert case.reference[0].shape == (3, 5)


# -- element types ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", [c for c in (*_UNARY, *_BINARY, *_MANY) if "Is" not in c.op], ids=str)
def test_reference_keeps_element_types(example: Case) -> None:
    with np.errstate(all="ignore"):
        value = example.impl.reference(example.site(), *example.inputs)[0]
    assert value.dtype == example.site().out(0).dtype.numpy


def test_folded_integers_keep_every_bit() -> None:
    big = np.array([2**62 + 1, -(2**62) - 3])
    assert Case("Add", (big, big)).run_reference((big, np.ones_like(big)))[0].tolist() == [2**62 + 2, -(2**62) - 2]
    assert Case("Div", (big, big)).run_reference((big, np.array(2)))[0].tolist() == [2**61, -(2**61) - 1]
    assert compiled(Case("Div", (big, np.array([2, 2])), live=(0, 1))).tolist() == [2**61, -(2**61) - 1]


# -- errors -------------------------------------------------------------------------------------------------------------


def test_mixed_element_types_are_refused_with_what_would_do() -> None:
    with pytest.raises(UnsupportedError, match=r"node 'node' \(Add\): Add of \(float32, int64\).*\(integer, integer\).*Cast"):
        Case("Add", (X, INTS)).site()


@pytest.mark.parametrize(
    ("example", "error", "text"),
    [
        (Case("Add", (X,)), ShapeError, "takes 2 inputs, not 1"),
        (Case("Add", (X, Y[:, :3])), ShapeError, "do not broadcast"),
        (Case("Cast", (X,), {"to": "bfloat16"}), UnsupportedError, "cannot cast to 'bfloat16', only to float32"),
        (Case("Erf", (X.astype(np.float64),)), UnsupportedError, r"Erf of \(float64\).*only \(float32\)"),
        (Case("Exp", (INTS,)), UnsupportedError, r"Exp of \(int64\).*only \(float32\), \(float64\)"),
        (Case("Add", (INTS, INTS.astype(np.int8))), UnsupportedError, r"Add of \(int64, int8\)"),
        (Case("Pow", (INTS, X.astype(np.float64))), UnsupportedError, r"Pow of \(int64, float64\)"),
        (Case("BitShift", (INTS, INTS)), ShapeError, "direction is '', not LEFT or RIGHT"),
        (Case("Gelu", (X,), {"approximate": "erf"}), ShapeError, "not none or tanh"),
        (Case("Fused", (X,), {}), GraphError, "not a list of texts"),
        (Case("Fused", (X,), {"body": ("System 0",)}), GraphError, "'System' is not a pointwise function"),
        (Case("Fused", (X,), {"body": ("Neg 1",)}), GraphError, r"reads \[1\]"),
        (Case("Fused", (X,), {"body": ("Neg -1",)}), GraphError, r"reads \[-1\]"),
        (Case("Fused", (X,), {"body": ("Neg x",)}), GraphError, "no number"),
        (Case("Fused", (X,), {"body": ("Add 0",)}), UnsupportedError, "Add of"),
        (Case("Fused", (X,), {"body": ("",)}), GraphError, "'' is not a pointwise function"),
    ],
    ids=str,
)  # fmt: skip
def test_errors_name_node_and_reason(example: Case, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"node 'node'.*{text}"):
        example.site()


# -- chains -------------------------------------------------------------------------------------------------------------


def chain_graph() -> Graph:
    """Ops of one line and of several, with literals, omitted inputs, casts and a result that two nodes read."""
    nodes = (
        Node("Sum", "sum", ("x", "y", "z"), ("a",)),
        Node("Clip", "clip", ("a", "low", "high"), ("b",)),
        Node("Pow", "square", ("b", "two"), ("c",)),
        Node("Gelu", "gelu", ("c",), ("d",), {"approximate": "tanh"}),
        Node("Mean", "mean", ("d", "b", "x"), ("e",)),
        Node("Greater", "greater", ("e", "z"), ("f",)),
        Node("Cast", "cast", ("f",), ("g",), {"to": "float32"}),
        Node("LeakyRelu", "leaky", ("g",), ("out",), {"alpha": 0.3}),
    )
    constants: dict[str, Array] = {
        "low": np.array(-0.5, "float32"),
        "high": np.array(0.9, "float32"),
        "two": np.array(2, "float32"),
    }
    live = {"x": X, "y": Y, "z": X[:1] * np.float32(0.1)}
    types = {name: TensorType.of(a) for name, a in (*constants.items(), *live.items())}
    for node in nodes:
        infer_node(types, Site(node, tuple(types[n] for n in node.inputs), tuple(constants.get(n) for n in node.inputs)))
    return Graph("chain", Stage.STEP, tuple(live), ("out",), nodes, types, constants)


def test_a_fused_chain_gives_the_bits_of_single_nodes() -> None:
    graph = verify(chain_graph())
    fused = fuse(graph)
    assert [node.op for node in fused.nodes] == ["Fused", "Fused"]  # two nodes read what Clip gives
    live = {"x": X, "y": Y, "z": X[0] * np.float32(0.1)}
    single, merged = (Stream(Engine(g)).step(live) for g in (graph, fused))
    np.testing.assert_array_equal(single, merged)


# -- time -----------------------------------------------------------------------------------------------------------------


def joined(case: Case, *streams: StreamType | None) -> Streamed:
    return join(case.site(), streams)


F = StreamType(0)
_CLIP = (X, Y)
_PAIR = (0, 1)


def test_join_carries_the_larger_delay() -> None:
    case = Case("Add", _CLIP, live=_PAIR)
    assert joined(case, StreamType(0, 2), StreamType(0, 5)).outputs == (StreamType(0, 5),)


def test_join_counts_axes_from_the_back() -> None:
    case = Case("Add", (floats(1, T, 5), floats(2, 3, T, 5)), live=_PAIR)
    assert joined(case, StreamType(0), StreamType(1)).outputs == (StreamType(1),)


def test_join_with_a_constant_without_frames_leaves_it_alone() -> None:
    for constant in (floats(2, 5), floats(2, 1, 5), floats(2)):
        found = joined(Case("Add", (X, np.asarray(constant))), F, None)
        assert found.outputs == (F,)
        assert found.consts == {}


@pytest.mark.parametrize("shape", [(T, 5), (T, 1), (2, T, 5)], ids=str)
def test_join_cuts_a_constant_that_repeats_itself_to_one_frame(shape: tuple[int, ...]) -> None:
    axis = len(shape) - 2
    constant = np.broadcast_to(np.take(floats(2, *shape), [0], axis), shape).copy()
    found = joined(Case("Add", (X, constant)), F, None)
    assert found.outputs == (StreamType(axis),)
    np.testing.assert_array_equal(found.consts[1], np.take(constant, [0], axis))


def test_join_takes_equal_nans_of_a_constant_for_equal() -> None:
    found = joined(Case("Add", (X, np.full((T, 5), np.nan, np.float32))), F, None)
    assert found.consts[1].shape == (1, 5)


@pytest.mark.parametrize(
    ("example", "streams", "reason"),
    [
        (Case("Add", _CLIP), (F, None), "input 1 is a constant that differs from frame to frame"),
        (Case("Add", _CLIP, live=_PAIR), (F, None), "input 1 has 6 frames of its own but is no stream"),
        (Case("Add", (floats(1, 5, 1), floats(2, 1, 5)), live=_PAIR), (F, StreamType(1)), "time on different axes"),
        (Case("Add", _CLIP, live=_PAIR), (F, StreamType(None)), "one answer for the clip and its frames"),
        (Case("Add", _CLIP, live=_PAIR), (F, StreamType(0, 0, 2)), "different frame rates"),
    ],
    ids=["constant", "still", "axes", "answer", "rates"],
)
def test_join_refuses_what_has_no_common_frame(example: Case, streams: tuple[StreamType | None, ...], reason: str) -> None:
    with pytest.raises(NotStreamableError, match=f"node 'node' \\(Add\\): .*{reason}"):
        joined(example, *streams)


def test_join_of_answers_for_the_clip_is_one() -> None:
    case = Case("Add", (floats(1, 1, 5), floats(2, 1, 5)), live=_PAIR)
    assert joined(case, StreamType(None, 1), StreamType(None, 3)).outputs == (StreamType(None, 3),)
    assert joined(case, StreamType(None), None).outputs == (StreamType(None),)
