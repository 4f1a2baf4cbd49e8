"""The pointwise ops: one row each. `pointwise` has the mechanism.

ROWS       scalar functions: the name, the same function in NumPy, a kernel for each combination of element types.
EXPANSIONS what ops are made of that are no single function: their lines, given the node.

Source of each op: its page on onnx.ai/onnx/operators.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.op import Site, Tolerance
from streamrnn.ir.types import DType
from streamrnn.kernels import casts, double, quantize, scalar, scalar_int
from streamrnn.kernels._jit import Device, Kernel


@dataclass(frozen=True)
class Row:
    """A scalar function.

    numpy:   the same on arrays, keeping their element type.
    kernels: one for each combination of C types (`DType.wide`); parameters behind the inputs are attributes.
    attrs:   (name, default) of those attributes.
    gives:   element type of the result, where it is neither bool nor that of an operand.
    mixed:   operands of one C type may be of different element types.
    """

    name: str
    numpy: Callable[..., Array]
    kernels: tuple[Kernel, ...]
    attrs: tuple[tuple[str, float], ...] = ()
    tolerance: Tolerance = field(default_factory=Tolerance)
    gives: DType | None = None
    mixed: bool = False

    @property
    def arity(self) -> int:
        """Number of inputs."""
        return len(self.kernels[0].params) - len(self.attrs)

    def applied(self, kinds: Sequence[DType | None]) -> tuple[Kernel, DType] | None:
        """The kernel for operands of these element types and that of the result; None stands for a literal, a float."""
        for kernel in self.kernels:
            own = [ctype for _, ctype in kernel.params]
            if len(own) != len(kinds) or any(
                ctype not in ("f32", "f64") if kind is None else kind.wide != ctype
                for ctype, kind in zip(own, kinds, strict=True)
            ):
                continue
            by_ctype = {ctype: kind for ctype, kind in reversed(list(zip(own, kinds, strict=True))) if kind is not None}
            if self.mixed or all(kind in (None, by_ctype[ctype]) for ctype, kind in zip(own, kinds, strict=True)):
                returned = str(kernel.returns)
                return kernel, self.gives or by_ctype.get(returned) or DType.of_ctype(returned)
        return None

    def signatures(self) -> str:
        """The element types of the inputs, for messages."""
        texts = []
        for kernel in self.kernels:
            own = [_ELEMENTS.get(ctype, DType.of_ctype(ctype).value) for _, ctype in kernel.params[: self.arity]]
            texts.append(f"({', '.join(own)})")
        return ", ".join(dict.fromkeys(texts))


#: what a C type stands for
_ELEMENTS = {"i64": "integer"}


def over(kernel: Kernel, *ctypes: str) -> tuple[Kernel, ...]:
    """`kernel` as it stands, and with each of `ctypes` in place of its first parameter's C type."""
    own = kernel.params[0][1]
    swapped = [name for name, ctype in kernel.params if ctype == own] + (["result"] if kernel.returns == own else [])
    return kernel, *(kernel.typed(**dict.fromkeys(swapped, ctype)) for ctype in ctypes)


def _double(kernel: Kernel, **functions: Device) -> tuple[Kernel, Kernel]:
    """`kernel` as it stands, and of float64 with these functions of float64 behind its names."""
    return kernel, over(kernel, "f64")[1].bind(**functions)


def _choices(kernel: Kernel, *ctypes: str) -> tuple[Kernel, ...]:
    return tuple(kernel.typed(a=ctype, b=ctype, result=ctype) for ctype in ctypes)


# -- NumPy where it takes more than a name ----------------------------------------------------------------------------


def _divide(a: Array, b: Array) -> Array:
    """Floats as usual, integers rounded toward zero; 0 for an integer 0 below."""
    if np.result_type(a, b).kind == "f":
        return np.asarray(np.divide(a, b))
    quotient = np.floor_divide(a, b)
    return np.asarray(quotient + ((quotient < 0) & (quotient * b != a)), quotient.dtype)


def _power(a: Array, b: Array) -> Array:
    """The element type of the result is that of the base."""
    whole = a.dtype.kind in "iu" and b.dtype.kind in "iu" and not np.any(np.less(b, 0))
    return np.asarray(np.power(a if whole else a.astype(np.float64), b), a.dtype)


def _where_negative(x: Array, y: Array) -> Array:
    return np.where(x < 0, y, x)


def _expm1(x: Array) -> Array:
    return np.asarray(np.expm1(np.minimum(x, 0)))


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _erf(x: Array) -> Array:
    return np.asarray(np.vectorize(math.erf, otypes=[np.asarray(x).dtype])(x))


def _gelu_tanh(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def _isinf(x: Array, negative: float, positive: float) -> Array:
    return (np.isposinf(x) & (positive != 0)) | (np.isneginf(x) & (negative != 0))


def _mod(a: Array, b: Array) -> Array:
    """The sign is that of b; 0 for an integer 0 below."""
    return np.asarray(np.mod(a, b))


def _shift(left: bool) -> Callable[[Array, Array], Array]:
    def shift(x: Array, n: Array) -> Array:
        inside = (n >= 0) & (n < 8 * x.dtype.itemsize)
        rest = np.zeros_like(x) if left else np.where(x < 0, -1, 0).astype(x.dtype)
        by = np.where(inside, n, 0).astype(x.dtype)
        return np.where(inside, np.left_shift(x, by) if left else np.right_shift(x, by), rest)

    return shift


# -- casts ------------------------------------------------------------------------------------------------------------


def _cast_kernels(target: DType) -> tuple[Kernel, ...]:
    """From every C type to `target`."""
    if target is DType.F16:
        return (casts.rounded,)
    if target is DType.F32:
        return (casts.widened, *(casts.cast.typed(x=c, result="f32") for c in ("f64", "i64", "u64", "b1")))
    if target is DType.F64:
        return tuple(casts.cast.typed(x=c, result="f64") for c in ("f32", "i64", "u64", "b1"))
    if target is DType.BOOL:
        return (*over(casts.nonzero, "f64"), *over(casts.nonzero_int, "u64"))
    truncate = {DType.I64: casts.truncate_i64, DType.U32: casts.truncate_i64, DType.U64: casts.truncate_u64}
    from_float = truncate.get(target, casts.truncate_i32)
    return (*over(from_float, "f64"), *(casts.cast.typed(x=c, result=target.wide) for c in ("i64", "u64", "b1")))


def _cast_row(dtype: DType) -> Row:
    return Row(f"Cast.{dtype.value}", lambda x: np.asarray(x).astype(dtype.numpy), _cast_kernels(dtype), gives=dtype)


def _quantize_row(dtype: DType) -> Row:
    """To `dtype`: inputs x, scale and zero point, all float32."""
    info = np.iinfo(dtype.value)

    def numpy(x: Array, scale: Array, zero: Array | float) -> Array:
        # the quotient of two float32 decides how it is rounded
        value = np.rint(np.asarray(x, np.float32) / np.asarray(scale, np.float32)) + zero
        return np.nan_to_num(np.clip(value, info.min, info.max), nan=info.min).astype(dtype.numpy)

    kernel = quantize.quantized.bind(lowest=float(info.min), highest=float(info.max))
    return Row(f"Quantize.{dtype.value}", numpy, (kernel,), gives=dtype)


# -- the rows -----------------------------------------------------------------------------------------------------------

#: what floats are quantised to
QUANTIZED = (DType.U8, DType.I8, DType.U16, DType.I16)

_INTS = ("i64", "u64")
_ALL = ("f64", *_INTS)
_ALPHA = (("alpha", 1.0),)

ROWS: Mapping[str, Row] = {
    row.name: row
    for row in (
        Row("Add", np.add, over(scalar.add, *_ALL)),
        Row("Sub", np.subtract, over(scalar.sub, *_ALL)),
        Row("Mul", np.multiply, over(scalar.mul, *_ALL)),
        Row("Div", _divide, (*over(scalar.div, "f64"), scalar_int.div_int, scalar_int.div_unsigned)),
        Row(
            "Mod",
            _mod,
            (*_double(scalar.mod, fmod_=double.fmod, copysign_=double.copysign), scalar_int.mod_int, scalar_int.mod_unsigned),
        ),
        Row("FMod", np.fmod, (*_double(scalar.fmod, fmod_=double.fmod), scalar_int.fmod_int, scalar_int.mod_unsigned)),
        Row(
            "Pow",
            _power,
            (scalar.power, *(scalar.power.typed(b=c) for c in _INTS), scalar_int.power_int, scalar_int.power_real),
            mixed=True,
        ),
        Row("Neg", np.negative, over(scalar.neg, "f64", "i64")),
        Row("Abs", np.abs, (scalar.abs_real, *over(scalar_int.abs_plain, "f64"))),
        Row("Sign", np.sign, (*over(scalar.sign, "f64"), scalar_int.sign_int, scalar_int.sign_unsigned)),
        Row("Min", np.minimum, over(scalar.minimum, *_ALL)),
        Row("Max", np.maximum, over(scalar.maximum, *_ALL)),
        Row("BitwiseAnd", np.bitwise_and, over(scalar_int.bitwise_and, "u64")),
        Row("BitwiseOr", np.bitwise_or, over(scalar_int.bitwise_or, "u64")),
        Row("BitwiseXor", np.bitwise_xor, over(scalar_int.bitwise_xor, "u64")),
        Row("BitwiseNot", np.bitwise_not, over(scalar_int.bitwise_not, "u64")),
        Row("ShiftLeft", _shift(left=True), (scalar_int.shift_left, scalar_int.shift_left_unsigned)),
        Row("ShiftRight", _shift(left=False), (scalar_int.shift_right, scalar_int.shift_right_unsigned)),
        Row("Reciprocal", lambda x: 1 / x, over(scalar.reciprocal, "f64")),
        Row("Sqrt", np.sqrt, _double(scalar.sqrt, sqrt_=double.sqrt)),
        Row("Exp", np.exp, _double(scalar.exp, exp_=double.exp)),
        Row("Log", np.log, _double(scalar.log, log_=double.log)),
        Row("Erf", _erf, (scalar.erf,)),
        Row("Floor", np.floor, _double(scalar.floor, floor_=double.floor)),
        Row("Ceil", np.ceil, _double(scalar.ceil, ceil_=double.ceil)),
        Row("Round", np.rint, _double(scalar.round_even, round_even_=double.round_even)),
        Row("Sin", np.sin, (scalar.sin,)),
        Row("Cos", np.cos, (scalar.cos,)),
        Row("Tan", np.tan, (scalar.tan,)),
        Row("Asin", np.arcsin, (scalar.asin,)),
        Row("Acos", np.arccos, (scalar.acos,)),
        Row("Atan", np.arctan, (scalar.atan,)),
        Row("Sinh", np.sinh, _double(scalar.sinh, sinh_=double.sinh)),
        Row("Cosh", np.cosh, _double(scalar.cosh, cosh_=double.cosh)),
        Row("Asinh", np.arcsinh, _double(scalar.asinh, asinh_=double.asinh)),
        Row("Acosh", np.arccosh, _double(scalar.acosh, acosh_=double.acosh)),
        Row("Atanh", np.arctanh, _double(scalar.atanh, atanh_=double.atanh)),
        Row("Equal", np.equal, over(scalar.equal, *_ALL, "b1")),
        Row("Less", np.less, over(scalar.less, *_ALL)),
        Row("LessOrEqual", np.less_equal, over(scalar.less_or_equal, *_ALL)),
        Row("Greater", np.greater, over(scalar.greater, *_ALL)),
        Row("GreaterOrEqual", np.greater_equal, over(scalar.greater_or_equal, *_ALL)),
        Row("And", np.logical_and, (scalar.logical_and,)),
        Row("Or", np.logical_or, (scalar.logical_or,)),
        Row("Xor", np.logical_xor, (scalar.logical_xor,)),
        Row("Not", np.logical_not, (scalar.logical_not,)),
        Row("Where", np.where, (scalar.where, *_choices(scalar.where, *_ALL, "f16", "b1"))),
        Row("IsNaN", np.isnan, over(scalar.isnan, "f64")),
        Row("IsInf", _isinf, over(scalar.isinf, "f64"), (("detect_negative", 1.0), ("detect_positive", 1.0))),
        Row("Relu", lambda x: np.maximum(x, 0), (*over(scalar.relu, "f64"), scalar_int.relu_int)),
        Row("LeakyRelu", lambda x, a: _where_negative(x, a * x), over(scalar.leaky_relu, "f64"), (("alpha", 0.01),)),
        Row("PRelu", lambda x, a: _where_negative(x, a * x), over(scalar.leaky_relu, "f64")),
        Row("Elu", lambda x, a: _where_negative(x, a * _expm1(x)), (scalar.elu,), _ALPHA),
        Row(
            "Selu",
            lambda x, a, g: g * _where_negative(x, a * _expm1(x)),
            (scalar.selu,),
            (("alpha", 1.67326319217681884765625), ("gamma", 1.05070102214813232421875)),
        ),
        Row("Celu", lambda x, a: _where_negative(x, a * _expm1(x / a)), (scalar.celu,), _ALPHA),
        Row("Sigmoid", _sigmoid, _double(scalar.sigmoid, sigmoid_=double.sigmoid)),
        Row(
            "HardSigmoid",
            lambda x, a, b: np.clip(a * x + b, 0, 1),
            (scalar.hard_sigmoid,),
            (("alpha", 0.2), ("beta", 0.5)),
        ),
        Row("HardSwish", lambda x: x * np.clip(x / 6 + 0.5, 0, 1), (scalar.hard_swish,)),
        Row("Swish", lambda x, a: x * _sigmoid(a * x), (scalar.swish,), _ALPHA),
        Row("GeluErf", lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))), (scalar.gelu,)),
        Row("GeluTanh", _gelu_tanh, (scalar.gelu_tanh,)),
        Row("Mish", lambda x: x * np.tanh(np.logaddexp(0, x)), (scalar.mish,)),
        Row("Tanh", np.tanh, _double(scalar.tanh, tanh_=double.tanh)),
        Row("Softplus", lambda x: np.logaddexp(0, x), _double(scalar.softplus, softplus_=double.softplus)),
        Row("Softsign", lambda x: x / (1 + np.abs(x)), (scalar.softsign,)),
        Row("ThresholdedRelu", lambda x, a: np.where(x > a, x, 0), over(scalar.thresholded_relu, "f64"), _ALPHA),
        *map(_cast_row, DType),
        *map(_quantize_row, QUANTIZED),
    )
}


# -- ops that are no single row -------------------------------------------------------------------------------------------


def line(name: str, *operands: int | float) -> str:
    """One line of a body: the row's name, then register numbers (int) and literals (float)."""
    return " ".join([name, *(f"={o!r}" if isinstance(o, float) else str(o) for o in operands)])


def chain(name: str, site: Site) -> list[str]:
    """A function of two inputs over any number of them, from the left."""
    n = len(site.types)
    return [line(name, 0 if k == 1 else n + k - 2, k) for k in range(1, n)]


def _mean(site: Site) -> list[str]:
    n = len(site.types)
    return [*chain("Add", site), line("Div", 2 * n - 2, float(n))] if n > 1 else []


def _clip(site: Site) -> list[str]:
    lines: list[str] = []
    for name, bound in (("Max", 1), ("Min", 2)):
        if site.has(bound):
            lines.append(line(name, len(site.types) if lines else 0, bound))
    return lines


def _pow(site: Site) -> list[str]:
    """Products where the exponent is a constant 2 or 3: they are faster and no less exact."""
    exponent = site.const(1)
    if exponent is not None and np.all(exponent == 2):
        return [line("Mul", 0, 0)]
    if exponent is not None and np.all(exponent == 3):
        return [line("Mul", 0, 0), line("Mul", 2, 0)]
    if site.type(1).dtype is DType.U64 and site.type(0).dtype.is_integer:
        return [line("Cast.int64", 1), line("Pow", 0, 2)]
    return [line("Pow", 0, 1)]


def _modulo(site: Site) -> list[str]:
    return [line("FMod" if site.attr_int("fmod", 0) else "Mod", 0, 1)]


def _gelu(site: Site) -> list[str]:
    kind = site.attr_str("approximate", "none")
    if kind not in ("none", "tanh"):
        raise site.shape_error(f"attribute approximate is {kind!r}, not none or tanh")
    return [line("GeluErf" if kind == "none" else "GeluTanh", 0)]


def _cast(site: Site) -> list[str]:
    source, target = site.type(0).dtype, site.attr_str("to", "")
    if f"Cast.{target}" not in ROWS:
        known = ", ".join(dtype.value for dtype in DType)
        raise UnsupportedError(f"node '{site.node.name}' (Cast): cannot cast to '{target}', only to {known}")
    if source.value == target:
        return []
    # float16 has but one way in and out
    if DType.F16 in (source, DType(target)) and DType.F32 not in (source, DType(target)):
        return [line("Cast.float32", 0), line(f"Cast.{target}", 1)]
    return [line(f"Cast.{target}", 0)]


def _abs(site: Site) -> list[str]:
    return [] if site.type(0).dtype.numpy.kind == "u" else [line("Abs", 0)]


def _bit_shift(site: Site) -> list[str]:
    direction = site.attr_str("direction", "")
    if direction not in ("LEFT", "RIGHT"):
        raise site.shape_error(f"attribute direction is {direction!r}, not LEFT or RIGHT")
    return [line("ShiftLeft" if direction == "LEFT" else "ShiftRight", 0, 1)]


#: rows that are no ops of their own
PARTS = frozenset(
    {
        "FMod",
        "GeluErf",
        "GeluTanh",
        "ShiftLeft",
        "ShiftRight",
        *(f"Cast.{dtype.value}" for dtype in DType),
        *(f"Quantize.{dtype.value}" for dtype in QUANTIZED),
    }
)

#: op -> its lines; no lines: the output is input 0
EXPANSIONS: Mapping[str, Callable[[Site], list[str]]] = {
    "Identity": lambda site: [],
    "Sum": lambda site: chain("Add", site),
    "Mean": _mean,
    "Min": lambda site: chain("Min", site),
    "Max": lambda site: chain("Max", site),
    "Clip": _clip,
    "Pow": _pow,
    "Mod": _modulo,
    "Abs": _abs,
    "BitShift": _bit_shift,
    "Gelu": _gelu,
    "Cast": _cast,
}
