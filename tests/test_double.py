"""Elementary functions of float64: error in ulp against NumPy's longer numbers over all binades, special values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from elementwise import Elementwise, loop_plan

from streamrnn.kernels import double
from streamrnn.kernels._jit import Device, f64, kernel

Array = npt.NDArray[Any]
Long = np.longdouble

#: functions under test, exchanged by `bind`
function = double.exp
function_of_two = double.fmod

precise = pytest.mark.skipif(np.finfo(Long).nmant < 63, reason="this machine has no floats longer than 64 bits to compare with")


@kernel
def unary(x: f64) -> f64:
    return function(x)


@kernel
def binary(x: f64, y: f64) -> f64:
    return function_of_two(x, y)


#: function, reference, error in ulp that the docstring states, lowest argument for which it does
FUNCTIONS: dict[str, tuple[Device, Callable[[Array], Array], float, float]] = {
    "exp": (double.exp, np.exp, 1, -np.inf),
    "expm1": (double.expm1, np.expm1, 1.5, -np.inf),
    "sinh": (double.sinh, np.sinh, 3, -np.inf),
    "cosh": (double.cosh, np.cosh, 3, -np.inf),
    "sigmoid": (double.sigmoid, lambda x: 1 / (1 + np.exp(-x)), 3, -708),
    "tanh": (double.tanh, np.tanh, 2.5, -np.inf),
    "log": (double.log, np.log, 1, -np.inf),
    "log1p": (double.log1p, np.log1p, 1, -np.inf),
    "softplus": (double.softplus, lambda x: np.logaddexp(Long(0), x), 2, -np.inf),
    "asinh": (double.asinh, np.arcsinh, 2, -np.inf),
    "acosh": (double.acosh, np.arccosh, 3, -np.inf),
    "atanh": (double.atanh, np.arctanh, 3, -np.inf),
    "sqrt": (double.sqrt, np.sqrt, 0.5, -np.inf),
    "floor": (double.floor, np.floor, 0, -np.inf),
    "ceil": (double.ceil, np.ceil, 0, -np.inf),
    "round_even": (double.round_even, np.rint, 0, -np.inf),
}
ODD = ("expm1", "sinh", "tanh", "log1p", "asinh", "atanh", "floor", "ceil", "round_even")

_SPECIAL = [
    0.0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 5e-324, -5e-324, 2.0**-1022, -(2.0**-1022), 1.7976931348623157e308,
    -1.7976931348623157e308, 709.782712893384, 709.7827128933841, -745.1332191019411, -745.1332191019412, 0.5, -0.5, 1.5, 2.5,
    -2.5, 2.0**51 + 0.5, 2.0**52 + 1, -(2.0**51) - 1.5, 2.0**53 + 2, 1 - 2**-53, 1 + 2**-52, 710.4, 22.0, 0.29, -0.29, 0.34,
]  # fmt: skip


def every_binade(seed: int, each: int) -> Array:
    """float64 numbers of both signs with every exponent, denormals, Inf and NaN among them; `each` of a binade."""
    mantissas = np.random.default_rng(seed).integers(0, 1 << 52, (4096, each), dtype=np.uint64)
    heads = np.arange(4096, dtype=np.uint64)[:, None] << np.uint64(52)
    return np.concatenate([np.array(_SPECIAL), (heads | mantissas).view(np.float64).ravel()])


def busy_range(seed: int, n: int) -> Array:
    """Where functions bend: -1.2 .. 1.2 and -40 .. 40 evenly, -750 .. 750 more thinly."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(-width, width, n) for width in (1.2, 40, 750)])


def error_in_ulp(value: Array, exact: Array) -> Array:
    """|value - exact| in units of the last place of the float64 nearest to `exact`; 0 for equal Inf, and where both are NaN."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(np.float64)
        size = np.clip(np.abs(exact), Long(2.0**-1022), Long(np.finfo(np.float64).max))
        error = np.abs(value - exact) / Long(2) ** (np.floor(np.log2(size)) - 52)
    same = (value == rounded) | (np.isnan(value) & np.isnan(exact))
    return np.where(same, np.fmin(error, 0.5) * np.isfinite(exact), np.where(np.isnan(error), np.inf, error))


X = np.concatenate([every_binade(1, 40), busy_range(2, 30_000)])


@precise
@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_is_what_the_docstring_states(name: str) -> None:
    device, reference, ulp, lowest = FUNCTIONS[name]
    x = X[~(lowest > X)]
    value = Elementwise(loop_plan(unary.bind(function=device), len(x)))(x)
    with np.errstate(all="ignore"):
        error = error_in_ulp(value, reference(x.astype(Long)))
    worst = int(np.argmax(error))
    assert error[worst] <= ulp, f"{name}({x[worst]!r}) = {value[worst]!r}"
    if ulp >= 1:
        assert f"At most {ulp} ulp" in str(device.__doc__)


@pytest.mark.parametrize("name", ODD)
def test_odd_functions_keep_the_sign_of_zero(name: str) -> None:
    value = Elementwise(loop_plan(unary.bind(function=FUNCTIONS[name][0]), 2))(np.array([0.0, -0.0]))
    np.testing.assert_array_equal(np.signbit(value), [False, True])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_machine_code_and_plain_python_give_the_same_bits(name: str) -> None:
    device = FUNCTIONS[name][0]
    x = np.concatenate([np.array(_SPECIAL), busy_range(3, 200)])
    value = Elementwise(loop_plan(unary.bind(function=device), len(x)))(x)
    with np.errstate(all="ignore"):
        plain = np.array([device(v) for v in x])
    np.testing.assert_array_equal(plain, value)


def test_fmod_is_exact() -> None:
    x, y = (values.ravel() for values in np.meshgrid(_SPECIAL, _SPECIAL))
    more = every_binade(7, 2)
    x = np.concatenate([x, more])
    y = np.concatenate([y, np.random.default_rng(8).permutation(more)])
    value = Elementwise(loop_plan(binary.bind(function_of_two=double.fmod), len(x)))(x, y)
    with np.errstate(all="ignore"):
        expected = np.fmod(x, y)
    np.testing.assert_array_equal(value, expected)
    number = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(value[number]), np.signbit(expected[number]))
