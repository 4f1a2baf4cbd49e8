"""Element types at run time: integers of every width wrap around in it, float64 computes in float64, float16 is only stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from contract import Case, Contract, floats
from moving import compiled, plain

from streamrnn import NonFiniteError, Stream
from streamrnn.ir.graph import Array
from streamrnn.ir.types import DType

_SHAPE = (6, 5)
INTEGERS = [dtype for dtype in DType if dtype.is_integer]


#: pairs that together go through every conversion function
_CASTS = [
    *((source.value, to) for source in DType for to in ("float32", "bool")),
    *(("float32", to.value) for to in DType),
    ("int64", "int8"), ("uint64", "int16"), ("uint16", "int8"), ("int8", "uint64"), ("int8", "uint32"), ("bool", "int16"),
    ("float64", "int32"), ("float64", "uint64"), ("float64", "float16"), ("float16", "uint8"), ("float16", "int64"),
    ("uint64", "float64"), ("int32", "float16"), ("bool", "float64"),
]  # fmt: skip


class TestCast(Contract):
    cases = [  # noqa: RUF012
        Case(
            "Cast",
            (np.abs(floats(8, *_SHAPE, scale=40)).astype(source),),
            {"to": to},
            time={0: 0} if source == to else {},
            onnx_attrs={"to": int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(to)))},
            label=f"{source} to {to}",
        )
        for source, to in dict.fromkeys(_CASTS)
    ]


@pytest.mark.parametrize("dtype", [dtype.value for dtype in INTEGERS])
@pytest.mark.parametrize(("op", "fmod"), [("Div", 0), ("Mod", 0), ("Mod", 1)])
def test_integer_division_never_traps(op: str, fmod: int, dtype: str) -> None:
    info = np.iinfo(dtype)
    some = [n for n in (info.min, -7, -2, -1, 0, 1, 2, 5, 7, info.max) if n >= info.min]
    a, b = np.meshgrid(np.array(some, dtype), np.array(some, dtype))
    case = Case(op, (a, b), {"fmod": fmod} if op == "Mod" else {}, live=(0, 1))
    [found] = compiled(case)
    for x, y, z in zip(a.flat, b.flat, found.flat, strict=True):
        x, y = int(x), int(y)
        quotient = abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1) if y else 0
        rest = 0 if y == 0 else x - y * quotient if fmod else x % y
        expected = quotient if op == "Div" else rest
        assert int(z) == (expected if expected <= info.max else info.min)


@pytest.mark.parametrize("to", ["int64", "int32"])
@pytest.mark.parametrize("source", ["float32", "float64"])
def test_a_float_that_fits_no_integer_becomes_the_lowest(source: str, to: str) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 2.0**63, 1.9, -1.9, 2.0**31 - 200, -(2.0**31)], source)
    lowest = int(np.iinfo(to).min)
    expected = np.array([*[lowest] * 6, 1, -1, int(x[8]), -(2**31)], to)
    np.testing.assert_array_equal(compiled(Case("Cast", (x,), {"to": to}))[0], expected)


#: op -> the same in NumPy, on arrays of one integer type, which wrap around in it
_SAME: dict[str, Callable[..., Any]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Min": np.minimum, "Max": np.maximum, "BitwiseXor": np.bitwise_xor,
    "Equal": np.equal, "Less": np.less, "LessOrEqual": np.less_equal, "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal, "BitwiseAnd": np.bitwise_and, "BitwiseOr": np.bitwise_or,
}  # fmt: skip


def _extremes(dtype: DType) -> tuple[Array, Array]:
    """Pairs of numbers of which many overflow."""
    info = np.iinfo(dtype.value)
    drawn = np.random.default_rng(1).integers(info.min, info.max, 8, dtype.numpy, endpoint=True)
    values = np.concatenate([np.array([info.min, info.max, 0, 1, 3], dtype.numpy), drawn])
    return tuple(np.ascontiguousarray(a) for a in np.meshgrid(values, values))  # type: ignore[return-value]


@pytest.mark.parametrize("dtype", INTEGERS, ids=lambda d: d.value)
@pytest.mark.parametrize("op", _SAME)
def test_integers_compute_in_their_own_width(op: str, dtype: DType) -> None:
    a, b = _extremes(dtype)
    expected = _SAME[op](a, b)
    for [found] in (compiled(Case(op, (a, b), live=(0, 1))), plain(Case(op, (a, b), live=(0, 1)))):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", INTEGERS, ids=lambda d: d.value)
def test_what_overflows_in_a_fused_chain_overflows_at_its_own_place(dtype: DType) -> None:
    a, b = _extremes(dtype)
    with np.errstate(all="ignore"):
        expected = np.less(a + b, b * b)
    case = Case("Fused", (a, b), {"body": ("Add 0 1", "Mul 1 1", "Less 2 3")}, live=(0, 1))
    for [found] in (compiled(case), plain(case)):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", INTEGERS, ids=lambda d: d.value)
def test_functions_of_one_integer(dtype: DType) -> None:
    x = _extremes(dtype)[0]
    signed = dtype.numpy.kind == "i"
    for op, numpy in (("Abs", np.abs), ("Sign", np.sign), ("BitwiseNot", np.invert), *([("Neg", np.negative)] * signed)):
        [found] = compiled(Case(op, (x,)))
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(found, numpy(x), err_msg=op)
    if signed:
        np.testing.assert_array_equal(compiled(Case("Relu", (x,)))[0], np.maximum(x, 0))


@pytest.mark.parametrize("dtype", INTEGERS, ids=lambda d: d.value)
@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_shifts_by_more_than_the_width_leave_the_sign_alone(direction: str, dtype: DType) -> None:
    width, lowest = dtype.size * 8, int(np.iinfo(dtype.value).min)
    x, n = (np.ascontiguousarray(a) for a in np.meshgrid(_extremes(dtype)[0][0], np.array([0, 1, 5, width - 1, width, 100])))
    n = n.astype(dtype.numpy)
    if lowest < 0:
        n[-1] = -1
    [found] = compiled(Case("BitShift", (x, n), {"direction": direction}, live=(0, 1)))
    for value, by, shifted in zip(x.flat, n.flat, found.flat, strict=True):
        inside = 0 <= int(by) < width
        if direction == "LEFT":
            expected = np.array(int(value) << int(by) & (1 << width) - 1 if inside else 0, f"uint{width}").astype(dtype.numpy)
        else:
            expected = int(value) >> int(by) if inside else min(0, 0 if int(value) >= 0 else -1)
        assert shifted == expected


@pytest.mark.parametrize("exponents", ["int32", "int64", "uint8", "uint64"])
@pytest.mark.parametrize("bases", ["int32", "int64"])
def test_powers_of_integers_are_exact(bases: str, exponents: str) -> None:
    a, b = np.meshgrid(np.array([-3, -1, 0, 1, 2, 7], bases), np.array([0, 1, 2, 5, 9], exponents))
    [found] = compiled(Case("Pow", (a, b), live=(0, 1)))
    assert found.dtype == a.dtype
    assert found.tolist() == [[int(x) ** int(y) for x, y in zip(*rows, strict=True)] for rows in zip(a, b, strict=True)]


def test_powers_of_integers_with_fractions_go_toward_zero() -> None:
    a, b = np.meshgrid(np.array([1, 2, 4, 9, 10, 27]), np.array([0.5, 1.5, 2, 0.33333334, -1], "float32"))
    [found] = compiled(Case("Pow", (a, b), live=(0, 1)))
    exact = a.astype(np.float64) ** b
    np.testing.assert_array_equal(found, np.trunc(exact + 1e-6))


# -- float64 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", [*(op for op in _SAME if "Bitwise" not in op), "Div"])
def test_float64_is_computed_in_float64(op: str) -> None:
    a, b = (np.random.default_rng(k).standard_normal((9, 4)) * (1 + 1e-12) for k in (1, 2))
    a[0, 0], b[1, 1] = np.nan, np.nan
    expected = _SAME[op](a, b) if op in _SAME else a / b
    np.testing.assert_array_equal(compiled(Case(op, (a, b), live=(0, 1)))[0], expected)


#: functions of one float64: where they are tried, and whether this onnxruntime has them
_X = np.random.default_rng(9).standard_normal(_SHAPE) * 3
_FUNCTIONS: dict[str, tuple[Array, bool]] = {
    **dict.fromkeys(("Exp", "Floor", "Ceil", "Round", "Sigmoid", "Tanh", "Reciprocal", "Relu"), (_X, True)),
    "IsInf": (_X, True),
    **dict.fromkeys(("Sinh", "Cosh", "Asinh", "Softplus", "ThresholdedRelu", "LeakyRelu"), (_X, False)),
    **dict.fromkeys(("Sqrt", "Log"), (np.abs(_X) + 0.1, True)),
    "Acosh": (np.abs(_X) + 1, False),
    "Atanh": (np.tanh(_X), False),
}


class TestDouble(Contract):
    cases = [  # noqa: RUF012
        *(Case(op, (x,), time={0: 0}, onnx=known) for op, (x, known) in _FUNCTIONS.items()),
        *(Case("Mod", (_X, _X[::-1].copy()), {"fmod": fmod}, live=(0, 1), onnx=bool(fmod)) for fmod in (0, 1)),
        Case("PRelu", (_X, np.array([0.1, -0.2, 0.3, 1.5, 0])), onnx=False),
    ]


@pytest.mark.parametrize("op", [*_FUNCTIONS, "Softmax", "LogSoftmax", "ReduceLogSum", "ReduceLogSumExp", "ReduceL2"])
def test_functions_of_float64_have_its_precision(op: str) -> None:
    x = np.abs(_X) if op == "ReduceLogSum" else _FUNCTIONS.get(op, (_X, True))[0]
    case = Case(op, (x,))
    for [found] in (compiled(case), plain(case)):
        assert found.dtype == case.reference[0].dtype
        np.testing.assert_allclose(found, case.reference[0], rtol=2e-15, atol=2e-15)


# -- float16 ----------------------------------------------------------------------------------------------------------


def test_every_float16_becomes_its_float32_and_comes_back() -> None:
    x = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    [wide] = compiled(Case("Cast", (x,), {"to": "float32"}))
    np.testing.assert_array_equal(wide.view(np.uint32)[~np.isnan(x)], x.astype(np.float32).view(np.uint32)[~np.isnan(x)])
    assert np.isnan(wide[np.isnan(x)]).all()
    [again] = compiled(Case("Cast", (wide,), {"to": "float16"}))
    np.testing.assert_array_equal(again.view(np.uint16)[~np.isnan(x)], x.view(np.uint16)[~np.isnan(x)])


def test_float32_is_rounded_to_the_nearest_float16() -> None:
    """Ties, neighbours of ties, what overflows, denormals."""
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    ties = (halves[1:] + halves[:-1]) / 2
    edges = np.array([65519.996, 65520, 65536, 1e30, np.inf, 2**-25, 2**-26, 1e-40], np.float32)
    x = np.concatenate([ties, np.nextafter(ties, 0), np.nextafter(ties, np.float32(np.inf)), edges])
    x = np.concatenate([x, -x])
    [found] = compiled(Case("Cast", (x,), {"to": "float16"}))
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(found.view(np.uint16), x.astype(np.float16).view(np.uint16))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_what_is_not_finite_is_seen_in_every_float(dtype: str) -> None:
    x = np.array([1, -2, np.finfo(dtype).max, 0], dtype)
    engine = Case("Identity", (x,)).engine
    stream = Stream(engine, on_nonfinite="hold")
    np.testing.assert_array_equal(stream.step(x), x)
    np.testing.assert_array_equal(stream.step(np.array([np.nan, 5, -np.inf, 7], dtype)), np.array([1, 5, x[2], 7], dtype))
    assert stream.mended == 1
    with pytest.raises(NonFiniteError):
        Stream(engine, on_nonfinite="raise").step(np.array([0, np.inf, 0, 0], dtype))
