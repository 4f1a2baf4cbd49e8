"""Einsum keeps the contract of ops, and every equation is the sum that it names."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from contract import Case, Contract, floats
from moving import calls, compiled

from streamrnn.errors import ShapeError, UnsupportedError
from streamrnn.ir.graph import Array

Shape = tuple[int, ...]


def case(equation: str, *shapes: Shape, fixed: Shape = (), **more: object) -> Case:
    """fixed: the operands that are constants."""
    arrays = tuple(floats(k, *shape) for k, shape in enumerate(shapes))
    live = tuple(k for k in range(len(arrays)) if k not in fixed)
    return Case("Einsum", arrays, {"equation": equation}, live=live, label=f"{equation} {shapes} {fixed}", **more)  # type: ignore[arg-type]


class TestEinsum(Contract):
    cases = [  # noqa: RUF012
        case("bij,bjk->bik", (2, 3, 4), (2, 4, 5), time={0: 1}),
        case("bhqd,bhkd->bhqk", (2, 3, 2, 20), (2, 3, 5, 20), time={0: 2}),
        case("bhqk,bhkd->bqhd", (1, 3, 4, 8), (1, 3, 8, 5), fixed=(1,), time={0: 2}),
        case("bcft,fgc->bgt", (1, 3, 5, 6), (5, 7, 3), fixed=(1,), time={0: 3}),
        case("ijk,jk->k", (3, 4, 5), (4, 5)),
        case("abcd,dcba->", (2, 3, 4, 5), (5, 4, 3, 2)),
        case("ab,bc,cd->ad", (5, 3), (3, 4), (4, 5), fixed=(1, 2), time={0: 0}),
        case("...ij,...jk", (2, 3, 4), (1, 4, 5), time={0: 1}),
        case("...ii->...i", (3, 4, 4), time={0: 0}),
        case("ij->ji", (6, 4), time={0: 0}),
        case("bij,bij->bij", (2, 5, 3), (2, 1, 3), fixed=(1,), time={0: 1}),
        case("bij,bjk->bik", (2, 3, 4), (2, 4, 5), time={0: 2}, refused="sums over time"),
        case("bij,bjk->bik", (4, 3, 4), (4, 4, 5), time={0: 1, 1: 2}, refused="different axes"),
        case("ii->i", (4, 4), time={0: 0}, refused="diagonal"),
    ]


@pytest.mark.parametrize("fixed", [(), (0,), (1,)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "uint32", "uint64", "int8"])
@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ii", ((4, 4),)), ("ij->", ((3, 4),)), ("i,i->", ((7,), (7,))), ("i,j->ij", ((3,), (4,))), (",ij->ij", ((), (2, 3))),
        (",->", ((), ())), ("ijk,ijk->ik", ((3, 4, 5), (3, 4, 5))), ("bhwc,hkc->bhwk", ((2, 3, 4, 5), (3, 6, 5))),
        ("oi,bit->bot", ((4, 3), (2, 3, 5))), ("ab,cd->bd", ((2, 3), (4, 5))), ("iij,jk->ik", ((3, 3, 4), (4, 5))),
        ("abij,bcij->acij", ((2, 3, 4, 5), (3, 6, 4, 5))), ("nkctv,kvw->nctw", ((1, 3, 4, 5, 6), (3, 6, 7))),
        ("bi,oi->bo", ((2, 30), (3, 30))), ("ij,jk", ((3, 0), (0, 4))), (" b a , c b ", ((2, 3), (4, 2))),
    ],
    ids=str,
)  # fmt: skip
def test_an_equation_is_the_sum_that_it_names(equation: str, shapes: tuple[Shape, ...], dtype: str, fixed: Shape) -> None:
    rng = np.random.default_rng(0)
    arrays = tuple(rng.integers(-4, 5, shape).astype(dtype) for shape in shapes)
    live = tuple(k for k in range(len(arrays)) if k not in fixed)
    made = Case("Einsum", arrays, {"equation": equation}, live=live)
    (found,) = compiled(made)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, made.reference[0])
    np.testing.assert_array_equal(found, summed(equation.replace(" ", ""), arrays))


def summed(equation: str, operands: tuple[Array, ...]) -> Array:
    """One product after the other, from the definition."""
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    letters = sorted(set(left) - {","})
    right = right if arrow else "".join(x for x in letters if left.count(x) == 1)
    sizes = {x: n for term, a in zip(terms, operands, strict=True) for x, n in zip(term, a.shape, strict=True)}
    y = np.zeros([sizes[x] for x in right], operands[0].dtype)
    with np.errstate(over="ignore"):  # unsigned integers wrap around
        for index in itertools.product(*(range(sizes[x]) for x in letters)):
            at = dict(zip(letters, index, strict=True))
            factors = [a[tuple(at[x] for x in term)] for term, a in zip(terms, operands, strict=True)]
            y[tuple(at[x] for x in right)] += np.prod(factors, dtype=y.dtype)
    return y


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (case("ij,jk->ik", (2, 3)), "2 operands"),
        (case("ij,jk->ik", (2, 3), (4, 5)), "axis j has 3 elements here and 4 there"),
        (case("ij->ik", (2, 3)), "no input has"),
        (case("ij->ii", (2, 3)), "one twice"),
        (case("ijk->i", (2, 3)), "does not name the axes"),
        (case("i1->i", (2, 3)), "does not name the axes"),
        (case("i...j...->i", (2, 3)), "does not name the axes"),
        (case("", (2, 3)), "does not name the axes"),
    ],
)
def test_an_equation_that_does_not_fit_is_refused(bad: Case, reason: str) -> None:
    with pytest.raises(ShapeError, match=reason):
        bad.site()


def test_the_number_of_calls_has_a_bound() -> None:
    made = case("abcdx,bdx->badc", (2, 9, 2, 9, 3), (9, 9, 3))
    assert calls(made) <= 8
    np.testing.assert_allclose(compiled(made)[0], made.reference[0], rtol=2e-5, atol=2e-6)


def test_more_products_than_a_step_can_make_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="products"):
        case(",".join("abcdefghijklm") + "->", *[(1000,)] * 13).site()


def test_a_type_that_is_not_multiplied_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="bool is not supported"):
        Case("Einsum", (np.zeros((2, 2), np.bool_),), {"equation": "ii"}).site()
