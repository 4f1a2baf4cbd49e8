"""The node tests that ship in the onnx package, run through the backend: what passes, and what is refused for which reason.

A test is in scope if its model uses no ops but those of `LISTED` and `RELATIVES`, and ops that ONNX defines by other ops. In
scope a test passes or is refused; a wrong answer is a failure wherever it occurs. A test with the suffix `_expanded` holds the
ops that define an op.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.defs import onnx_opset_version

from streamrnn.codegen.driver import driver_kernels
from streamrnn.codegen.library import compile_missing
from streamrnn.errors import StreamRNNError
from streamrnn.kernels._jit import Kernel
from streamrnn.planner import make_plan
from streamrnn_converters.backend import Rep, prepare
from streamrnn_converters.onnx.functions import has_function

#: the ops that the project sets out to support, by family
LISTED: Mapping[str, str] = {
    "arithmetic": "Add Sub Mul Div Pow Mod Neg Abs Sign Sqrt Reciprocal Exp Log Erf Floor Ceil Round Min Max Mean Sum Sin Cos "
    "Tan Asin Acos Atan Sinh Cosh Clip IsNaN IsInf",
    "logic": "Equal Less LessOrEqual Greater GreaterOrEqual And Or Xor Not Where",
    "activation": "Relu LeakyRelu PRelu Elu Selu Celu Sigmoid HardSigmoid HardSwish Swish Gelu Mish Tanh Softplus Softsign "
    "ThresholdedRelu Softmax LogSoftmax",
    "linear": "MatMul Gemm Einsum Conv ConvTranspose",
    "recurrent": "LSTM GRU RNN",
    "pooling": "MaxPool AveragePool GlobalAveragePool GlobalMaxPool LpPool",
    "normalization": "BatchNormalization LayerNormalization InstanceNormalization GroupNormalization RMSNormalization "
    "LpNormalization",
    "reduction": "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum "
    "ReduceLogSumExp ArgMax ArgMin CumSum TopK",
    "shape": "Reshape Transpose Squeeze Unsqueeze Flatten Concat Split Slice Gather GatherElements GatherND ScatterND "
    "ScatterElements Pad Expand Tile Shape Size Range ConstantOfShape Constant Identity Cast CastLike OneHot Trilu Resize",
    "signal": "DFT STFT HannWindow HammingWindow BlackmanWindow",
    "control": "If Loop Scan SequenceEmpty SequenceInsert SequenceAt SequenceLength SplitToSequence ConcatFromSequence",
    "quantized": "QuantizeLinear DequantizeLinear QLinearConv QLinearMatMul MatMulInteger ConvInteger DynamicQuantizeLinear",
    "random": "Multinomial RandomNormalLike RandomUniformLike",
}

#: near relatives: the rest of the same families, older names of listed ops, and what converters write around them
RELATIVES = (
    "Asinh Acosh Atanh BitShift BitwiseAnd BitwiseOr BitwiseXor BitwiseNot CumProd Hardmax Shrink LRN "
    "MeanVarianceNormalization GlobalLpPool Dropout Scatter Upsample DepthToSpace SpaceToDepth EyeLike ReverseSequence "
    "CenterCropPad MelWeightMatrix SequenceConstruct SequenceErase SequenceMap RandomNormal RandomUniform Bernoulli "
    "NonZero Unique Compress BitCast TensorScatter"
)

_LISTED = frozenset(" ".join(LISTED.values()).split())
_SCOPE = _LISTED | frozenset(RELATIVES.split())

_T = TensorProto.DataType
_SMALL = ("FLOAT8", "FLOAT4", "UINT4", "INT4", "UINT2", "INT2")


@dataclass(frozen=True)
class Case:
    """One test: a model, and pairs of inputs and expected outputs. types: ONNX names of the element types in it."""

    name: str
    model: ModelProto
    data_sets: Sequence[tuple[Sequence[Any], Sequence[Any]]]
    rtol: float
    atol: float

    @property
    def ops(self) -> frozenset[str]:
        return frozenset(_op(node) for node in _nodes(self.model))

    @property
    def listed(self) -> bool:
        """Whether all its ops are in `LISTED`."""
        return self.ops <= _LISTED

    @property
    def in_scope(self) -> bool:
        newest = onnx_opset_version()
        return all(_op(node) in _SCOPE or has_function(node, newest) for node in _nodes(self.model))

    @property
    def types(self) -> frozenset[str]:
        return frozenset(_types(self.model))


@dataclass(frozen=True)
class Result:
    """listed: whether all its ops are in `LISTED`. outcome: passed, refused, disputed or failed. reason: why it was refused or
    is disputed. bound: inputs that became constants; constant: whether all of them did, so that no compiled code computed
    anything."""

    name: str
    listed: bool
    in_scope: bool
    outcome: str
    reason: str = ""
    detail: str = ""
    bound: tuple[str, ...] = ()
    constant: bool = False


def _op(node: NodeProto) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def _nodes(model: ModelProto) -> Iterator[NodeProto]:
    """All nodes, those of bodies and local functions too, without the calls of these functions."""
    own = {(f.domain, f.name) for f in model.functions}

    def walk(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
        for node in nodes:
            if (node.domain, node.op_type) not in own:
                yield node
            for attribute in node.attribute:
                if attribute.type == AttributeProto.GRAPH:
                    yield from walk(attribute.g.node)

    yield from walk(model.graph.node)
    for function in model.functions:
        yield from walk(function.node)


def _graphs(model: ModelProto) -> Iterator[GraphProto]:
    yield model.graph
    for node in _nodes(model):
        yield from (a.g for a in node.attribute if a.type == AttributeProto.GRAPH)


def _types(model: ModelProto) -> Iterator[str]:
    for graph in _graphs(model):
        for info in (*graph.input, *graph.output):
            kind = info.type.WhichOneof("value")
            yield _T.Name(info.type.tensor_type.elem_type) if kind == "tensor_type" else str(kind)
        yield from (_T.Name(tensor.data_type) for tensor in graph.initializer)
    for node in _nodes(model):
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield _T.Name(attribute.t.data_type)
            elif attribute.name in ("to", "dtype", "output_dtype") and attribute.type == AttributeProto.INT:
                yield _T.Name(attribute.i)


def _training(case: Case) -> bool:
    return any(
        (node.op_type == "BatchNormalization" and any(a.name == "training_mode" and a.i for a in node.attribute))
        or (node.op_type == "Dropout" and len(node.input) > 2)
        for node in _nodes(case.model)
    )


#: tests whose expected values are further from the exact ones than the tolerance that they come with, which allow less than a
#: unit in the last place, or which onnxruntime reads otherwise, by the text of the operator's page
DISPUTED: Mapping[str, str] = {
    **dict.fromkeys(
        ("test_dft_inverse", "test_dft_inverse_opset19"),
        "expects the rounding errors of a float32 FFT, 1.9e-7, where the exact value is 0 and the tolerance 1e-7",
    ),
    **dict.fromkeys(
        ("test_attention_4d_causal_fp16", "test_attention_4d_causal_fp16_expanded"),
        "allows a relative 1e-3, where a unit in the last place of float16 is up to 9.8e-4 and several steps round",
    ),
    **dict.fromkeys(
        ("test_resize_downsample_scales_linear_align_corners", "test_resize_downsample_scales_cubic_align_corners"),
        "expects align_corners with fractions of an element; onnxruntime and PyTorch count whole ones",
    ),
    "test_maxunpool_export_with_output_shape": (
        "expects indices that count the elements of a smaller shape; onnxruntime and PyTorch count those of output_shape"
    ),
}

NOT_LISTED = "an op that is not on the list"
#: a test of random numbers runs, and what comes out has the right type and shape, but no value of it is known
RANDOM = "random numbers, for which the test has no expected values"
UNSUPPORTED = "not supported"

#: why a test in scope is refused, the first that holds; where none does it is UNSUPPORTED
REASONS: Mapping[str, Callable[[Case], bool]] = {
    "strings": lambda case: "STRING" in case.types,
    "float8, float4, int4, int2": lambda case: any(kind.startswith(_SMALL) for kind in case.types),
    "bfloat16": lambda case: "BFLOAT16" in case.types,
    "training": _training,
    RANDOM: lambda case: bool({"Bernoulli", "RandomUniformLike"} & case.ops),
}


def collect() -> list[Case]:
    """All node tests of the installed onnx, by name. Takes seconds: onnx computes them."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NumPy, about the tests' own arithmetic
        found = collect_testcases(None)
    return [
        Case(case.name, case.model, case.data_sets or (), case.rtol, case.atol)
        for case in sorted(found, key=lambda case: case.name)
        if case.model is not None
    ]


def run(cases: Sequence[Case], progress: Callable[[int], None] = lambda done: None) -> list[Result]:
    """The result of each test. What its kernels need is compiled for all of them at once."""
    reps = [_prepared(case) for case in cases]
    _compile(reps, cases)
    results = []
    for done, (case, rep) in enumerate(zip(cases, reps, strict=True)):
        results.append(_result(case, rep))
        progress(done + 1)
    return results


def _prepared(case: Case) -> Rep | StreamRNNError:
    try:
        return prepare(case.model)
    except StreamRNNError as error:
        return error


def _compile(reps: Sequence[Rep | StreamRNNError], cases: Sequence[Case]) -> None:
    kernels: dict[str, Kernel] = {}
    for rep, case in zip(reps, cases, strict=True):
        if isinstance(rep, StreamRNNError):
            continue
        for inputs, _ in case.data_sets:
            try:
                plan = make_plan(rep.graph(_arrays(inputs)))
            except StreamRNNError:
                continue
            kernels.update((kernel.key, kernel) for kernel in driver_kernels(plan))
    compile_missing(kernels.values())


def _result(case: Case, rep: Rep | StreamRNNError) -> Result:
    made = partial(Result, case.name, case.listed, case.in_scope)
    try:
        if isinstance(rep, StreamRNNError):
            raise rep
        for inputs, expected in case.data_sets:
            _compare(rep.run(_arrays(inputs)), _arrays(expected), case)
    except StreamRNNError as error:
        reason = next((reason for reason, holds in REASONS.items() if holds(case)), UNSUPPORTED)
        return made("refused", reason if case.in_scope else NOT_LISTED, str(error))
    except AssertionError as error:
        text = str(error).strip()
        return made("disputed", DISPUTED[case.name], text) if case.name in DISPUTED else made("failed", detail=text)
    constant = bool(rep.bound) and not rep.graph(_arrays(inputs)).inputs
    if REASONS[RANDOM](case):
        return made("refused", RANDOM)
    return made("passed", bound=rep.bound, constant=constant)


def _arrays(values: Iterable[Any]) -> list[Any]:
    return [numpy_helper.to_array(value) if isinstance(value, TensorProto) else value for value in values]


def _compare(found: Sequence[Any], expected: Sequence[Any], case: Case) -> None:
    """AssertionError where shapes, types or values differ, in the tolerance of the test."""
    assert len(found) == len(expected), f"{len(found)} outputs, {len(expected)} are expected"
    for index, (own, other) in enumerate(zip(found, expected, strict=True)):
        if isinstance(other, list | tuple):
            assert isinstance(own, list | tuple), f"output {index} is no sequence"
            _compare(own, other, case)
            continue
        assert own.dtype == other.dtype, f"output {index} is {own.dtype}, {other.dtype} is expected"
        assert own.shape == other.shape, f"output {index} has shape {own.shape}, {other.shape} is expected"
        if REASONS[RANDOM](case):
            continue
        np.testing.assert_allclose(own, other, rtol=case.rtol, atol=case.atol)


@dataclass(frozen=True)
class Summary:
    """total: all tests. listed: those whose ops are all in `LISTED`. scope: those in scope; passed, constant, disputed and
    refused (by reason) are among these. beyond: passed, although not in scope. failed: wrong answers, wherever."""

    total: int
    listed: int
    listed_passed: int
    scope: int
    passed: int
    constant: int
    disputed: int
    refused: Mapping[str, int]
    beyond: int
    failed: int


def summary(results: Sequence[Result]) -> Summary:
    """The counts."""
    listed = [result for result in results if result.listed]
    scope = [result for result in results if result.in_scope]
    return Summary(
        total=len(results),
        listed=len(listed),
        listed_passed=_count(listed, "passed"),
        scope=len(scope),
        passed=_count(scope, "passed"),
        constant=sum(result.constant for result in scope),
        disputed=_count(scope, "disputed"),
        refused=dict(Counter(result.reason for result in scope if result.outcome == "refused")),
        beyond=_count([result for result in results if not result.in_scope], "passed"),
        failed=_count(results, "failed"),
    )


def _count(results: Sequence[Result], outcome: str) -> int:
    return sum(result.outcome == outcome for result in results)
