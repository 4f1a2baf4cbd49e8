"""A report says the same in a table, as JSON and as a page, and a page needs nothing but itself."""

from __future__ import annotations

import base64
import io
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import models
import numpy as np
import pytest
from rich.console import Console
from streamrnn_converters import convert
from streamrnn_converters.page import report_html
from streamrnn_converters.report import Chunking, Culprit, Curve, Report, report_table
from streamrnn_converters.rows import Row
from streamrnn_converters.validate import validate

from streamrnn import Engine
from streamrnn.errors import MissingExtraError


def made(**changes: Any) -> Report:
    steps = np.arange(50)
    curve = Curve("random", "y<b>", 3, steps, np.sin(steps / 5), np.sin(steps / 5), np.full(50, 1e-7), 1e-4)
    values: dict[str, Any] = {
        "model": "dir/<script>alert(1)</script>.onnx",
        "fingerprint": "ab" * 32,
        "versions": {"numpy": "2.0"},
        "mode": "frame",
        "mode_reason": "",
        "law": "this with that",
        "steps": 50,
        "seed": 0,
        "frames": 1,
        "delay": 2,
        "receptive_field": 17,
        "state_bytes": 2048,
        "weights_bytes": 3 << 20,
        "rows": (Row("random", "output", "y[bold]", 50, 1e-7, 1e-6, None, 1e-4, 0.0),),
        "chunkings": (Chunking("random", 50, True, True),),
        "curves": (curve,),
    }
    return Report(**{**values, **changes})


FAILED = Row("loud", "state", "h", 50, float("inf"), float("inf"), 7, 5e-4)
CULPRIT = Culprit("loud", 7, "layer2/gru", "GRU", "hidden<2>", (0, 3), 0.25, 0.5, 0.25, 1e-4, {"x<1>": 1e-8})


def text(report: Report, width: int = 200) -> str:
    console = Console(width=width, record=True, quiet=False, file=io.StringIO())
    console.print(report_table(report))
    return console.export_text()


class TestVerdict:
    def test_passes_only_where_every_row_and_every_chunking_passes(self) -> None:
        assert made().passed
        assert not made(rows=(*made().rows, FAILED)).passed
        assert not made(chunkings=(Chunking("random", 50, True, False),)).passed
        assert not made(rows=()).passed

    def test_a_failure_is_told_with_its_first_step(self) -> None:
        assert "state 'h' at step 7 of signal 'loud'" in made(rows=(*made().rows, FAILED)).verdict

    def test_an_undecided_row_is_told_and_needs_another_signal_that_decides(self) -> None:
        undecided = replace(made().rows[0], signal="loud", undecided=True)
        assert made(rows=(*made().rows, undecided)).passed
        assert "1 undecided" in made(rows=(*made().rows, undecided)).verdict
        assert not made(rows=(undecided,)).passed
        assert "no signal decides about y[bold]" in made(rows=(undecided,)).verdict
        assert "undecided" in text(made(rows=(undecided,)))

    def test_numbers_are_whole_in_a_terminal_of_80_columns_whatever_the_names_are(self) -> None:
        numbers = {"max_abs": 1.25e-04, "max_rel": 2.5e-03, "tolerance": 3.75e-02, "noise": 4.5e-01}
        row = replace(made().rows[0], name="a_long/name.of_an/output", undecided=True, **numbers)
        told = text(made(rows=(*made().rows, row)), width=80)
        assert all(f"{value:.2e}" in told for value in numbers.values())

    def test_changed_bits_are_told(self) -> None:
        assert "changes bits" in made(chunkings=(Chunking("random", 50, False, True),)).verdict


class TestJson:
    def test_holds_everything_but_the_curves(self) -> None:
        data = json.loads(made(rows=(FAILED,), culprit=CULPRIT).to_json())
        assert data["passed"] is False
        assert data["rows"][0]["first_bad"] == 7
        assert data["rows"][0]["passed"] is False
        assert data["culprit"]["node"] == "layer2/gru"
        assert data["weights_bytes"] == 3 << 20
        assert data["versions"] == {"numpy": "2.0"}
        assert "curves" not in data

    def test_infinities_are_text_because_json_has_none(self) -> None:
        assert json.loads(made(rows=(FAILED,)).to_json())["rows"][0]["max_abs"] == "inf"

    def test_a_real_report_is_serialisable(self, tmp_path: Path) -> None:
        path = models.packed_step(tmp_path / "packed.onnx")
        report = validate(path, models.sabotaged(convert(path), "two_W"), steps=12)
        data = json.loads(report.to_json())
        assert data["culprit"]["node"] == "two"
        assert {"streamrnn", "numpy", "numba", "llvmlite", "onnx", "onnxruntime", "python", "CPU"} <= set(data["versions"])


class TestTable:
    def test_names_are_not_read_as_markup(self) -> None:
        assert "y[bold]" in text(made())

    def test_says_what_was_found(self) -> None:
        found = text(made(rows=(FAILED,), culprit=CULPRIT, excluded={"z": "it is random"}, notes=("mind this",)))
        for part in ("FAILED", "5.00e-04", "layer2/gru", "0.25", "0.5", "z: it is random", "mind this", "2.0 KiB", "3.0 MiB"):
            assert part in found
        assert "PASSED" in text(made())

    def test_a_chunking_that_changes_bits_is_named(self) -> None:
        assert "loud (block and random chunks)" in text(made(chunkings=(Chunking("loud", 50, False, False),)))


class TestPage:
    def test_needs_nothing_but_itself(self) -> None:
        page = report_html(made())
        sources = re.findall(r'(?:src|href)="([^"]{0,40})', page)
        assert sources
        assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
        assert "<script" not in page
        assert "@import" not in page

    def test_names_from_a_model_file_cannot_inject_anything(self) -> None:
        page = report_html(made(rows=(FAILED,), culprit=CULPRIT, excluded={"<i>": "<b>"}))
        assert "<script>" not in page
        for name in ("y&lt;b&gt;", "hidden&lt;2&gt;", "x&lt;1&gt;", "&lt;i&gt;"):
            assert name in page

    def test_a_failure_shows_where_it_is_with_both_values(self) -> None:
        page = report_html(made(rows=(FAILED,), culprit=CULPRIT))
        for part in ("FAILED", "layer2/gru", "<dd>0.25</dd>", "<dd>0.5</dd>"):
            assert part in page

    def test_each_output_and_signal_has_a_plot(self, tmp_path: Path) -> None:
        path = models.two_layers(tmp_path / "clip.onnx")
        report = validate(path, Engine(convert(path, mode="frame", time_axis={"x": 0})), steps=30)
        plots = re.findall(r"base64,([^\"]+)", report_html(report))
        assert len(plots) == 8
        for plot in plots:
            assert ElementTree.fromstring(base64.b64decode(plot)).tag.endswith("svg")

    @pytest.mark.parametrize("value", [0.0, np.inf, 1e38])
    def test_extreme_differences_can_be_drawn(self, value: float) -> None:
        curve = made().curves[0]
        odd = Curve("s", "y", 0, curve.steps, curve.expected, np.full(50, np.nan), np.full(50, value), 0.0)
        assert "data:image" in report_html(made(curves=(odd,)))

    def test_matplotlib_is_asked_for_by_its_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(MissingExtraError, match=r"streamrnn\[plot\]"):
            report_html(made())
