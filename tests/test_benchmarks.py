"""The benchmark suite: what it makes of clocks, limits and figures, and one small case of it. Never how long anything took."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import bench
import numpy as np
import pytest
from suite import targets
from suite.beside import differences
from suite.cells import CELLS, CellCase, Session, noise
from suite.own import engine as own_engine
from suite.parts import Setup, calls, cells, profile, tails
from suite.peers import installed, onnxruntime_peer
from suite.report import Run, held, page, short
from suite.roofline import Level, Roofline, flops
from suite.rows import KERNEL, OWN, Row, where
from suite.timing import abba, medians, ratios
from suite.why import why

from streamrnn.plan import each


class Clock:
    """A clock that only moves when a side is called; `drift` makes every call a little slower than the one before."""

    def __init__(self, drift: float = 0.0) -> None:
        self.now, self.drift, self.order = 0.0, drift, []

    def side(self, name: str, cost: float) -> tuple[Callable[[Any], None], str]:
        def call(x: str) -> None:
            self.order.append(x)
            self.now += cost * (1 + self.drift * len(self.order))

        return call, name

    def __call__(self) -> int:
        return round(self.now)


def test_each_round_goes_there_and_back() -> None:
    clock = Clock()
    abba([clock.side("a", 1000), clock.side("b", 1000), clock.side("c", 1000)], budget=0, least=1000, clock=clock)
    assert "".join(clock.order).endswith("abccba" * 3)


def test_medians_and_ratios_are_those_of_the_sides() -> None:
    clock = Clock()
    times = abba([clock.side("a", 2000), clock.side("b", 5000)], budget=1e-3, least=10_000, clock=clock)
    assert medians(times) == [2000, 5000]
    assert ratios(times) == [1, 2.5]


def test_a_machine_that_slows_down_steadily_tilts_no_ratio() -> None:
    clock = Clock(drift=1e-2)
    times = abba([clock.side("a", 10_000), clock.side("b", 10_000)], budget=1e-2, least=1, clock=clock)
    assert ratios(times)[1] == pytest.approx(1, abs=1e-3)
    assert times[-1, 0] > 1.2 * times[0, 0]  # the machine did slow down


def test_the_bound_is_the_slower_of_reading_and_computing() -> None:
    roof = Roofline((Level("L1", 1000, 10.0), Level("memory", 0, 1.0)), gflops=2.0, reading=lambda size: size / 10)
    assert roof.bound(size=500, flops=10) == 50
    assert roof.bound(size=500, flops=1000) == 500


def test_a_peer_that_is_not_installed_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(installed.__globals__["PEERS"], "absent", "no-such-package")
    found, versions, missing = installed(["onnxruntime", "absent"])
    assert list(found) == ["onnxruntime"] == list(versions)
    assert missing == {"absent": "not installed (pip install no-such-package)"}
    assert "Without absent: not installed" in page(made([], missing=missing), "chart.png")


def test_results_of_another_length_or_without_numbers_are_wrong() -> None:
    clip, expected = noise((2, 3)), np.zeros((2, 3), np.float32)
    sessions = {
        "right": Session(lambda x: 0 * x, (3,)),
        "off": Session(lambda x: 0 * x + 2, (3,)),
        "short": Session(lambda x: 0 * x[:2], (3,)),
        "nan": Session(lambda x: x + np.nan, (3,)),
    }
    assert differences(sessions, clip, expected) == {"right": 0, "off": 2, "short": np.inf, "nan": np.inf}


@pytest.mark.parametrize("cell", CELLS)
def test_gates_are_put_in_another_order_row_by_row(cell: str, tmp_path: Path) -> None:
    case = CellCase(cell, 2, tmp_path)
    own = {"LSTM": "iofc", "GRU": "zrh", "RNN": "h"}[cell]
    W = case.weights["W"]
    assert case.gates_as(own, W).tobytes() == W.tobytes()
    moved = case.gates_as(own[::-1], W)
    assert moved[:2].tobytes() == W[-2:].tobytes()


def cell_row(cell: str, H: int, weights: str = "f32", way: str = "step", **figures: dict[str, float]) -> Row:
    return Row("cells", {"cell": cell, "H": H, "weights": weights, "way": way}, {OWN: {"ns": 1.0, "ratio": 1.0}, **figures})


def verdict(rows: list[Row], text: str) -> targets.Verdict:
    [found] = [v for v in targets.verdicts(rows) if text in v.what]
    return found


def test_a_target_is_met_where_its_worst_case_meets_it() -> None:
    rows = [cell_row(cell, 64, onnxruntime={"ns": r, "ratio": r}) for cell, r in (("LSTM", 6.0), ("GRU", 5.0))]
    assert verdict(rows, "H=64") == targets.Verdict(
        "step, LSTM and GRU, H=64, f32, vs onnxruntime io-binding", "5x", "5.00x to 6.00x", True
    )
    assert verdict([*rows, cell_row("LSTM", 64, onnxruntime={"ratio": 4.9})], "H=64").met is False
    assert verdict([cell_row("RNN", 64, onnxruntime={"ratio": 0.1}), *rows], "H=64").met is True


def test_a_row_names_its_own_target_and_whether_it_is_met() -> None:
    assert held(cell_row("LSTM", 16, onnxruntime={"ratio": 29.9})) == "30x onnxruntime: **no**"
    assert held(cell_row("GRU", 512, "int8", **{"onnxruntime f32": {"ratio": 5.0}})) == "5x onnxruntime f32: yes"
    assert held(cell_row("RNN", 8, way="block of 256", onnxruntime={"ratio": 1.5})) == "1x onnxruntime: yes"
    assert held(cell_row("RNN", 8, onnxruntime={"ratio": 1.5})) == held(cell_row("LSTM", 16)) == ""


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    assert {v.met for v in targets.verdicts([])} == {None}
    assert all(v.measured == "not measured" for v in targets.verdicts([]))


def test_blocks_have_to_be_never_slower_and_faster_on_the_whole() -> None:
    rows = [cell_row("GRU", H, way="block of 256", onnxruntime={"ratio": r}) for H, r in ((32, 4.0), (64, 0.9))]
    assert verdict(rows, "every cell and size").met is False
    assert verdict(rows, "every cell and size").measured == "0.90x to 4.00x"
    [mean] = [v for v in targets.blocks(rows) if "geometric" in v.wanted]
    assert (mean.measured, mean.met) == ("1.90x", True)


def test_the_best_peer_is_the_quickest_with_the_same_weights() -> None:
    figures = {"litert": {"ratio": 3.0}, "torch": {"ratio": 9.0}, "onnxruntime f32": {"ratio": 1.5}, KERNEL: {"ratio": 0.5}}
    found = verdict([cell_row("GRU", 512, "int8", **figures)], "int8 GRU")
    assert (found.measured, found.met) == ("3.00x to 3.00x", False)


def test_tails_are_judged_by_their_spread_beside_onnxruntimes() -> None:
    axes = {"cell": "LSTM", "H": 64, "way": "step", "load": "none"}
    row = Row("tails", axes, {OWN: {"ns": 10, "p99.9": 20}, "onnxruntime": {"ns": 10, "p99.9": 50}})
    assert verdict([row], "p99.9").met is True
    assert verdict([replace(row, figures={**row.figures, OWN: {"ns": 10, "p99.9": 30}})], "p99.9").met is False


def test_what_a_call_adds_is_judged_at_its_worst() -> None:
    found = [
        Row(
            "calls",
            {"cell": "LSTM", "H": H},
            {"step(x)": {"over the kernel, ns": added}, "step()": {"over the kernel, ns": 20.0}},
        )
        for H, added in ((8, 70.0), (32, 151.0))
    ]
    assert verdict(found, "step(x)").measured == "70 to 151 ns"
    assert [v.met for v in targets.calls(found)] == [False, True]


def test_a_step_from_python_takes_longer_than_one_in_native_code(setup: Setup, tmp_path: Path) -> None:
    row = calls.row(setup, CellCase("GRU", 8, tmp_path))
    assert set(row.figures) == {KERNEL, *targets.CALLS}
    for way in targets.CALLS:
        over = row.figures[way]["over the kernel, ns"]
        assert over == pytest.approx(row.figures[way]["ns"] - row.figures[KERNEL]["ns"], rel=0.5, abs=200)
    assert "| GRU | 8 | step() |" in page(made([row]), "chart.png")


def test_tails_come_with_what_the_machine_does_to_additions_alone() -> None:
    call, numbers = tails.control((sum, tuple(range(5000))))
    assert call is sum
    assert numbers == tuple(range(len(numbers)))
    axes = {"cell": "LSTM", "H": 64, "way": "step", "load": "none"}
    late = {name: {"ns": 1000, "p99.9": 3000} for name in (OWN, "control")}
    row = Row("tails", axes, {**late, "onnxruntime": {"ns": 8000, "p99.9": 16000}})
    assert verdict([row], "p99.9").measured == "1.50 (3.0 and 2.0); p99.9 itself 0.19 of onnxruntime's"
    assert any("Additions that take as long as our step have 3.0." in text for text in why([row], 100.0, []))


def test_percentiles_and_misses_of_a_deadline() -> None:
    found = tails.tail(np.array([1000.0] * 999 + [2e6]))
    assert (found["ns"], found["max"], found["calls"], found["misses"]) == (1000, 2e6, 1000, 1)


def made(rows: list[Row], missing: dict[str, str] | None = None) -> Run:
    about = {"machine": "a machine", "date": "2026-01-01"}
    levels = [{"name": "L1", "size": 32768, "bandwidth": 100.0}]
    return Run(about, {"onnxruntime": "1.32"}, missing or {}, levels, 100.0, rows)


def test_the_readme_keeps_what_stands_around_its_table() -> None:
    text = "before\n<!-- speed -->\nold\n<!-- /speed -->\nafter\n"
    assert bench.between(text, "new") == "before\n<!-- speed -->\nnew\n<!-- /speed -->\nafter\n"


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    roof = Roofline((Level("L1", 0, 100.0),), 100.0, reading=lambda size: size / 100)
    return Setup({"onnxruntime": onnxruntime_peer}, {}, roof, quick=True, budget=0.0, work=tmp_path, models=None)


def test_one_cell_is_measured_drawn_and_written(setup: Setup, tmp_path: Path) -> None:
    rows = [cells.row(setup, CellCase("LSTM", 8, tmp_path, steps), "f32") for steps in (1, 16)]
    assert {OWN, KERNEL, "onnxruntime", "onnxruntime run"} == set(rows[0].figures)
    assert {OWN, "onnxruntime", "onnxruntime run"} == set(rows[1].figures)
    assert all(f["ns"] > 0 for row in rows for f in row.figures.values())
    assert rows[0].figures["onnxruntime"]["error"] < 1e-5
    run, readme = made(rows), tmp_path / "README.md"
    readme.write_text("<!-- speed -->\n<!-- /speed -->\n")
    bench.write(run, tmp_path, readme)
    again = Run.of(json.loads((tmp_path / "benchmarks.json").read_text()))
    assert page(again, "benchmarks.png") == (tmp_path / "benchmarks.md").read_text() == page(run, "benchmarks.png")
    assert short(run) in readme.read_text()
    assert (tmp_path / "benchmarks.png").read_bytes()[:4] == b"\x89PNG"
    assert where(rows, "cells", way="step", H=8) == rows[:1]


def test_arithmetic_of_a_plan_is_that_of_its_cells(tmp_path: Path) -> None:
    case = CellCase("GRU", 32, tmp_path)
    assert flops(own_engine(case, "f32").plan) == case.flops


def test_a_kind_of_kernel_left_out_of_a_plan_leaves_the_others(tmp_path: Path) -> None:
    plan = own_engine(CellCase("LSTM", 32, tmp_path), "f32").plan
    kinds = {profile.kind(item) for item, _ in each((*plan.calls, *plan.commit))}
    assert "cells" in kinds
    rest = profile.with_kinds(plan, kinds - {"cells"})
    assert {profile.kind(item) for item, _ in each((*rest.calls, *rest.commit))} == kinds - {"cells"}
    assert flops(rest) == 0


def test_a_missed_target_is_explained_by_the_figures_of_its_worst_case() -> None:
    rows = [
        cell_row(cell, 32, **{KERNEL: {"ns": 0.5}, "onnxruntime": {"ns": r, "ratio": r}})
        for cell, r in (("GRU", 9.0), ("LSTM", 6.0))
    ]
    [text] = [text for text in why(rows, 100.0, []) if "H<=32" in text]
    assert "LSTM H=32 is the worst. Its 8192 multiply-adds take 0.164 us" in text
    assert why([cell_row("LSTM", 32, onnxruntime={"ns": 30.0, "ratio": 30.0})], 100.0, []) == []


def test_a_profile_names_what_each_kind_takes() -> None:
    row = Row("profile", {"model": "m"}, {KERNEL: {"ns": 2000.0, "roofline": 0.5}, "conv": {"share": 0.6, "gflops": 50.0}})
    assert "| m | 2.00 | 50% | 60% (50 GFLOP/s) |" in page(made([row]), "chart.png")
    beside_ort = Row("models", {"model": "dprnn_a"}, {OWN: {"ns": 1.0}, "onnxruntime": {"ratio": 2.0}})
    assert any("conv 60% at 50% of the core" in text for text in why([row, beside_ort], 100.0, []))
