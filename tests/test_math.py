"""Elementary functions: error in ulp against float64 over all binades, special values, whatever the CPU."""

from __future__ import annotations

import math as libm
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from elementwise import Elementwise, call_plan, loop_plan

from streamrnn.codegen import build as codegen
from streamrnn.kernels import math, power, trig
from streamrnn.kernels._jit import Device, f32, f32p, i64, kernel
from streamrnn.kernels.simd import LANES, vload, vstore
from streamrnn.kernels.simd import sqrt as sqrt_

Array = npt.NDArray[Any]

#: functions under test, exchanged by `bind`
function = math.exp
function_of_two = power.power


@kernel
def unary(x: f32) -> f32:
    return function(x)


@kernel
def binary(x: f32, y: f32) -> f32:
    return function_of_two(x, y)


@kernel
def root(x: f32) -> f32:
    return sqrt_(x)


@kernel
def lanes(n: i64, x: f32p, y: f32p) -> None:
    for at in range(0, n, LANES):
        vstore(y, at, function(vload(x, at)))


def _erf(x: Array) -> Array:
    return np.vectorize(libm.erf, otypes=[np.float64])(x)


#: function, float64 reference, error in ulp that the docstring states, lowest argument for which it does
FUNCTIONS: dict[str, tuple[Device, Callable[[Array], Array], float, float]] = {
    "exp": (math.exp, np.exp, 1.5, -np.inf),
    "expm1": (math.expm1, np.expm1, 2, -np.inf),
    "sinh": (math.sinh, np.sinh, 2, -np.inf),
    "cosh": (math.cosh, np.cosh, 2, -np.inf),
    "sigmoid": (math.sigmoid, lambda x: 1 / (1 + np.exp(-x)), 3, -87),
    "tanh": (math.tanh, np.tanh, 6, -np.inf),
    "log": (math.log, np.log, 1, -np.inf),
    "log1p": (math.log1p, np.log1p, 1, -np.inf),
    "softplus": (math.softplus, lambda x: np.logaddexp(0, x), 2, -np.inf),
    "mish": (math.mish, lambda x: x * np.tanh(np.logaddexp(0, x)), 4, -85),
    "asinh": (math.asinh, np.arcsinh, 2, -np.inf),
    "acosh": (math.acosh, np.arccosh, 3, -np.inf),
    "atanh": (math.atanh, np.arctanh, 3, -np.inf),
    "erf": (math.erf, _erf, 1.5, -np.inf),
    "sin": (trig.sin, np.sin, 3, -np.inf),
    "cos": (trig.cos, np.cos, 3, -np.inf),
    "tan": (trig.tan, np.tan, 4, -np.inf),
    "asin": (trig.asin, np.arcsin, 3, -np.inf),
    "acos": (trig.acos, np.arccos, 2, -np.inf),
    "atan": (trig.atan, np.arctan, 3, -np.inf),
    "floor": (math.floor, np.floor, 0, -np.inf),
    "ceil": (math.ceil, np.ceil, 0, -np.inf),
    "round_even": (math.round_even, np.rint, 0, -np.inf),
}
ODD = ("expm1", "sinh", "tanh", "log1p", "asinh", "atanh", "erf", "sin", "tan", "asin", "atan", "floor", "ceil", "round_even")

_SPECIAL = [
    0.0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 2.0**-126, -(2.0**-126), 3.4028235e38, -3.4028235e38,
    88.72283, 88.72284, -103.97, -103.98, 0.5, -0.5, 1.5, 2.5, 4194304.5, 4194305.5, 8388607.5, 8388609, 16777217,
    -4194305.5, -8388607.5, 1 - 2**-24, 1 + 2**-23, np.pi, np.pi / 2, 22.0, 710.0,
]  # fmt: skip


def every_binade(seed: int, each: int) -> Array:
    """float32 numbers of both signs with every exponent, denormals, Inf and NaN among them; `each` of a binade."""
    mantissas = np.random.default_rng(seed).integers(0, 1 << 23, (512, each), dtype=np.uint32)
    heads = np.arange(512, dtype=np.uint32)[:, None] << np.uint32(23)
    return np.concatenate([np.array(_SPECIAL, np.float32), (heads | mantissas).view(np.float32).ravel()])


def busy_range(seed: int, n: int) -> Array:
    """Where functions bend: -20 .. 20 evenly, -110 .. 110 more thinly."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(-20, 20, n), rng.uniform(-1.2, 1.2, n), rng.uniform(-110, 110, n)]).astype(np.float32)


def error_in_ulp(value: Array, exact: Array) -> Array:
    """|value - exact| in units of the last place of the float32 nearest to `exact`; 0 for equal Inf and for NaN on both
    sides."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(np.float32)
        size = np.clip(np.abs(exact), 2.0**-126, np.finfo(np.float32).max)
        error = np.abs(value - exact) / 2.0 ** (np.floor(np.log2(size)) - 23)
    same = (value == rounded) | (np.isnan(value) & np.isnan(exact))
    return np.where(same, np.fmin(error, 0.5) * np.isfinite(exact), np.where(np.isnan(error), np.inf, error))


@pytest.fixture(params=["host", "x86-64"])
def cpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """This CPU, and one without fused multiply-add: results differ in the last bits."""
    if request.param != "host":
        if codegen.host()[0] == request.param or "x86" not in codegen._llvm().get_process_triple():
            pytest.skip("this machine runs no other x86 code")
        monkeypatch.setattr(codegen, "host", lambda: (request.param, ""))
    return str(request.param)


X = np.concatenate([every_binade(1, 600), busy_range(2, 60_000)])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_is_what_the_docstring_states(name: str, cpu: str) -> None:
    device, reference, ulp, lowest = FUNCTIONS[name]
    x = X[~(lowest > X)]
    value = Elementwise(loop_plan(unary.bind(function=device), len(x)))(x)
    with np.errstate(all="ignore"):
        error = error_in_ulp(value, reference(x.astype(np.float64)))
    worst = int(np.argmax(error))
    assert error[worst] <= ulp, f"{name}({x[worst]!r}) = {value[worst]!r}"
    if ulp:
        assert f"At most {ulp} ulp" in str(device.__doc__)


@pytest.mark.parametrize("name", ODD)
def test_odd_functions_keep_the_sign_of_zero(name: str) -> None:
    zeros = np.array([0.0, -0.0], np.float32)
    value = Elementwise(loop_plan(unary.bind(function=FUNCTIONS[name][0]), 2))(zeros)
    np.testing.assert_array_equal(np.signbit(value), [False, True])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_vectors_single_numbers_and_plain_python_agree(name: str) -> None:
    device = FUNCTIONS[name][0]
    x = np.array([*_SPECIAL, *busy_range(3, 10)], np.float32)[: 4 * LANES]
    single = Elementwise(loop_plan(unary.bind(function=device), len(x)))(x)
    vectors = Elementwise(call_plan(lanes.bind(function=device), len(x)))(x)
    np.testing.assert_array_equal(vectors, single)
    with np.errstate(all="ignore"):
        plain = np.array([device(v) for v in x], np.float32)
        in_numpy = np.concatenate([device(x[at : at + LANES]) for at in range(0, len(x), LANES)])
    np.testing.assert_array_equal(in_numpy, plain)
    np.testing.assert_allclose(plain, single, rtol=1e-6, atol=1e-44)


def test_tanh_and_sigmoid_stay_within_their_bounds(cpu: str) -> None:
    x = np.concatenate([X, np.linspace(7, 10, 100_000, dtype=np.float32)])
    x = x[~np.isnan(x)]
    bounded = Elementwise(loop_plan(unary.bind(function=math.tanh), len(x)))(x)
    assert np.abs(bounded).max() == 1
    assert (np.abs(bounded[np.abs(x) > 9.02]) == 1).all()
    share = Elementwise(loop_plan(unary.bind(function=math.sigmoid), len(x)))(x)
    assert share.max() == 1
    assert share.min() >= np.finfo(np.float32).tiny


def test_sqrt_is_correctly_rounded(cpu: str) -> None:
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(Elementwise(loop_plan(root, len(X)))(X), np.sqrt(X))


# -- functions of two numbers ---------------------------------------------------------------------------------------------


def of_pairs(device: Device, x: Array, y: Array) -> Array:
    return Elementwise(loop_plan(binary.bind(function_of_two=device), len(x)))(x, y)


def test_power_is_within_its_error(cpu: str) -> None:
    rng, n = np.random.default_rng(4), 100_000
    wide = np.exp(rng.uniform(-88, 88, n)).astype(np.float32)
    near = rng.uniform(0.5, 2, n).astype(np.float32)
    x = np.concatenate([every_binade(5, 200), wide, near, rng.uniform(-10, 10, n).astype(np.float32)])
    to_range = rng.uniform(-104, 89, 2 * n) / np.log(np.concatenate([wide, near]).astype(np.float64))
    y = np.concatenate(
        [rng.permutation(every_binade(6, 200)), to_range.astype(np.float32), np.rint(rng.uniform(-20, 20, n))],
        dtype=np.float32,
        casting="same_kind",
    )
    value = of_pairs(power.power, x, y)
    with np.errstate(all="ignore"):
        error = error_in_ulp(value, np.power(x.astype(np.float64), y.astype(np.float64)))
    worst = int(np.argmax(error))
    assert error[worst] <= 1.5, (x[worst], y[worst], value[worst])
    assert "At most 1.5 ulp" in str(power.power.__doc__)


def special_pairs() -> tuple[Array, Array]:
    values = [*_SPECIAL, 2, -2, 3, -3, 2**24 - 1, 1 - 2**24, 2**24 + 2, 1e-20, 127, 128, -149, -150, 1e10, -1e10]
    x, y = np.meshgrid(np.array(values, np.float32), np.array(values, np.float32))
    return x.ravel(), y.ravel()


def test_power_has_the_special_cases_of_c(cpu: str) -> None:
    x, y = special_pairs()
    value = of_pairs(power.power, x, y)
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(np.float64), y.astype(np.float64))
        expected = exact.astype(np.float32)
    assert error_in_ulp(value, exact).max() <= 1.5
    zero = (expected == 0) | np.isinf(expected)
    np.testing.assert_array_equal(np.signbit(value[zero]), np.signbit(expected[zero]))


def test_fmod_is_exact(cpu: str) -> None:
    x, y = special_pairs()
    more = every_binade(7, 20)
    x = np.concatenate([x, more])
    y = np.concatenate([y, np.random.default_rng(8).permutation(more)])
    value = of_pairs(math.fmod, x, y)
    with np.errstate(all="ignore"):
        expected = np.fmod(x, y)
    np.testing.assert_array_equal(value, expected)
    number = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(value[number]), np.signbit(expected[number]))
