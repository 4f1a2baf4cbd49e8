"""ONNX's own node tests, through the compiled step.

`python tests/test_onnx_node_tests.py` runs them all, stores which pass in onnx_node_tests.json, and writes the README's text.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from streamrnn_converters import node_tests
from streamrnn_converters.backend import prepare

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
STORED = ROOT / "tests" / "onnx_node_tests.json"
#: the tests are run in this many pieces, which workers share out
PARTS = 8


@cache
def cases() -> list[node_tests.Case]:
    return node_tests.collect()


@pytest.mark.parametrize("part", range(PARTS))
def test_node_tests_are_right_or_refused_for_a_known_reason(part: int) -> None:
    results = node_tests.run(cases()[part::PARTS])
    assert {r.name: r.detail for r in results if r.outcome == "failed"} == {}
    assert {r.name: r.detail for r in results if r.reason == node_tests.UNSUPPORTED} == {}
    stored = json.loads(STORED.read_text())
    passed = set(stored["passed"])
    assert {r.name: r.detail for r in results if r.outcome != "passed" and r.name in passed} == {}


DFTS = sorted(name for name in node_tests.DISPUTED if name.startswith("test_dft"))


@pytest.mark.parametrize("name", DFTS)
def test_the_exact_answer_misses_what_a_disputed_test_expects(name: str) -> None:
    """The inverse DFT along axis 1, in float64."""
    (case,) = (case for case in cases() if case.name == name)
    ((x, *_), (expected,)) = case.data_sets[0]
    exact = np.fft.ifft(x[..., 0].astype(np.float64) + 1j * x[..., 1], axis=1)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        np.testing.assert_allclose(np.stack([exact.real, exact.imag], -1), expected, rtol=case.rtol, atol=case.atol)


HALVES = sorted(name for name in node_tests.DISPUTED if "fp16" in name)


@pytest.mark.parametrize("name", HALVES)
def test_a_disputed_test_of_float16_is_off_by_two_units_in_the_last_place_at_most(name: str) -> None:
    (case,) = (case for case in cases() if case.name == name)
    (given, (expected,)) = case.data_sets[0]
    (own,) = prepare(case.model).run(given)
    assert own.dtype == expected.dtype == np.float16
    assert (np.abs(own - expected) <= 2 * np.spacing(np.maximum(np.abs(own), np.abs(expected)))).all()


@pytest.mark.parametrize("name", sorted({*node_tests.DISPUTED} - {*DFTS, *HALVES}))
def test_onnxruntime_too_reads_a_disputed_test_otherwise(name: str) -> None:
    (case,) = (case for case in cases() if case.name == name)
    (given, (expected,)) = case.data_sets[0]
    session = onnxruntime.InferenceSession(case.model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, dict(zip((i.name for i in session.get_inputs()), given, strict=True)))
    (own,) = prepare(case.model).run(given)
    assert not np.allclose(found, expected, rtol=case.rtol, atol=case.atol)
    np.testing.assert_allclose(own, found, rtol=1e-5, atol=1e-6)


def figures(stored: dict[str, object]) -> str:
    """The README's sentence."""
    counts = stored["counts"]
    assert isinstance(counts, dict)
    refused = ", ".join(f"{reason} ({count})" for reason, count in sorted(counts["refused"].items(), key=lambda row: -row[1]))
    text = (
        f"Of the {counts['total']} node tests in onnx {stored['onnx']}, {counts['listed']} use only ops of the project's list; "
        f"{counts['listed_passed']} of these pass. With their near relatives, and ops that ONNX defines by other ops, it is "
        f"{counts['passed']} of {counts['scope']} ({counts['constant']} of them without a run-time input), and "
        f"{counts['beyond']} beyond that; none gives a wrong answer. Refused: {refused}. {counts['disputed']} are disputed: "
        f"`DISPUTED` in node_tests.py says why."
    )
    return textwrap.fill(text, 128)


def test_the_readme_states_what_was_measured() -> None:
    found = re.search(r"<!-- onnx-tests -->\n(.*?)\n<!-- /onnx-tests -->", README.read_text(), re.S)
    assert found is not None
    assert found[1] == figures(json.loads(STORED.read_text()))


if __name__ == "__main__":
    measured = node_tests.run(cases())
    counts = node_tests.summary(measured)
    stored = {
        "onnx": onnx.__version__,
        "counts": vars(counts),
        "passed": [r.name for r in measured if r.outcome == "passed"],
    }
    STORED.write_text(json.dumps(stored, indent=1) + "\n")
    text = re.sub(
        r"(<!-- onnx-tests -->\n).*?(\n<!-- /onnx-tests -->)",
        lambda m: f"{m[1]}{figures(stored)}{m[2]}",
        README.read_text(),
        flags=re.S,
    )
    README.write_text(text)
    sys.exit(bool(counts.failed))
