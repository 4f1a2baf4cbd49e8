"""Does it fit: what must hold of every estimate and verdict, whatever the figures of a machine are. Never how long anything
took (`benchmarks/bench_fit.py` compares with the clock)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import recurrent_clip
from streamrnn_converters.passes.align import align
from streamrnn_converters.passes.streamify import streamify
from test_cli import AMP, SENSOR, VAD, refused, run

from streamrnn import load
from streamrnn.errors import InputError, MissingExtraError, UnsupportedError
from streamrnn.export import roofline
from streamrnn.export.boards import BOARDS, Board, find_board
from streamrnn.export.estimate import PUBLISHED, load_of
from streamrnn.export.fit import FITS, NOT, UNCERTAIN, Demand, Fit, Model, demand, last, room, timing
from streamrnn.export.roofline import caches, follow, multiply, read
from streamrnn.export.targets import TARGETS
from streamrnn.export.workload import Workload
from streamrnn.ir.file import save_graph
from streamrnn.plan import MAX_TRIPS, Repeat, StepPlan
from streamrnn.planner import make_plan

PI4, M4 = BOARDS["pi4"], BOARDS["cortex-m4"]
CODE = 10_000


@cache
def plan_of(op: str = "LSTM", hidden: int = 32, n_in: int = 16) -> StepPlan:
    """A cell and a matrix product with 16 outputs."""
    return make_plan(align(streamify(recurrent_clip(n_in=n_in, hidden=hidden, n_out=16, op=op), {"x": 0})))


@cache
def real(path: Path, weights: str = "f32") -> StepPlan:
    return load(path).plan if weights == "f32" else load(path, weights=weights).plan


def workload(plan: StepPlan) -> Workload:
    return Workload(plan, plan.step_bytes)


def answer(plan: StepPlan, board: Board = PI4, rate: float = 48000, block: int = 64, hop: int = 1) -> Fit:
    return Model(plan, CODE).fit(board, demand(rate, block, hop))


# -- what a step takes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("hidden", [16, 32, 128])
def test_multiply_adds_are_those_of_the_equations(op: str, gates: int, hidden: int) -> None:
    n_in = 16
    expected = gates * hidden * (n_in + hidden) + hidden * 16
    assert load_of(workload(plan_of(op, hidden, n_in)), PI4).multiply_adds == expected


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_all_weights_of_a_cell_are_read_once_in_a_step(op: str) -> None:
    plan = plan_of(op, 128)
    assert load_of(workload(plan), PI4).weight_bytes == pytest.approx(plan.weights.nbytes, rel=0.05)


@pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_a_layer_made_wider_on_paper_takes_what_one_that_is_wider_takes(op: str, board: Board) -> None:
    paper, wide = workload(plan_of(op, 32)), workload(plan_of(op, 96))
    guess, truth = load_of(paper, board, 3.0), load_of(wide, board)
    assert guess.multiply_adds == truth.multiply_adds
    assert guess.nanoseconds == pytest.approx(truth.nanoseconds, rel=0.05)
    assert paper.weight_bytes(3.0) == pytest.approx(wide.weight_bytes(), rel=0.02)
    assert wide.arena_bytes() <= paper.arena_bytes(3.0)


@pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))
@pytest.mark.parametrize("path", [AMP, VAD, SENSOR], ids=lambda p: p.stem)
@pytest.mark.parametrize("weights", ["f32", "f16", "int8"])
def test_more_weights_never_take_less_time_or_memory(path: Path, weights: str, board: Board) -> None:
    model = Model(real(path, weights), CODE)
    wanted = Demand(48000, 64, 1)
    needs = [model.need(board, wanted, factor) for factor in (0.1, 0.5, 0.9, 1, 1.01, 1.5, 2, 3, 7, 20, 100)]
    for small, large in pairwise(needs):
        assert small.flash <= large.flash
        assert small.ram <= large.ram
        assert small.nanoseconds <= large.nanoseconds


@pytest.mark.parametrize("path", [AMP, VAD, SENSOR], ids=lambda p: p.stem)
def test_weights_in_fewer_bits_are_fewer_bytes_to_read(path: Path) -> None:
    sizes = [load_of(workload(real(path, weights)), PI4).weight_bytes for weights in ("f32", "f16", "int8")]
    assert sizes[0] > 1.8 * sizes[1] > 1.8 * sizes[2]


def test_weights_in_fewer_bits_are_as_many_multiply_adds() -> None:
    full, narrow = (load_of(workload(real(VAD, weights)), PI4).multiply_adds for weights in ("f32", "int8"))
    assert full == pytest.approx(narrow, rel=0.05)  # lanes that fill up the last vector differ


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_a_block_of_steps_is_as_many_multiply_adds_and_reads_fewer_weights_than_its_steps(op: str) -> None:
    plan = plan_of(op, 128, 128)
    assert plan.block is not None
    step, block = load_of(workload(plan), PI4), load_of(Workload(plan.block.plan, plan.arena_bytes), PI4)
    assert block.multiply_adds == plan.block.steps * step.multiply_adds
    recurrent = 4 * {"LSTM": 4, "GRU": 3, "RNN": 1}[op] * 128 * 128
    assert block.weight_bytes == pytest.approx(plan.block.steps * recurrent + plan.weights.nbytes - recurrent, rel=0.05)
    assert block.nanoseconds < plan.block.steps * step.nanoseconds


def test_a_loop_without_an_end_that_is_known_has_no_time() -> None:
    plan = plan_of()
    endless = replace(plan, calls=(Repeat("spin", 0, MAX_TRIPS, 0, None, None, plan.calls),))
    with pytest.raises(UnsupportedError, match="spin: its loop ends by what it computes"):
        load_of(workload(endless), PI4)
    twice = replace(plan, calls=(Repeat("spin", 0, 2, 0, None, None, plan.calls),))
    assert load_of(workload(twice), PI4).multiply_adds == 2 * load_of(workload(plan), PI4).multiply_adds


# -- the verdict -------------------------------------------------------------------------------------------------------


@given(st.floats(1, 1e12), st.floats(1, 1e12), st.floats(1, 4))
def test_a_verdict_holds_whatever_the_truth_is_within_the_uncertainty(estimate: float, deadline: float, factor: float) -> None:
    low, high = estimate / factor, estimate * factor
    verdict = timing(estimate, deadline, factor)
    assert (verdict == FITS) == (high <= deadline)
    if verdict == NOT:
        assert low > deadline * (1 - 1e-12)
    if verdict == UNCERTAIN:
        assert low <= deadline * (1 + 1e-12) < high * (1 + 1e-9)


@pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))
@pytest.mark.parametrize("rate", [10, 8000, 48000, 1e6])
def test_verdict_and_numbers_agree(board: Board, rate: float) -> None:
    found = answer(real(VAD), board, rate)
    assert found.memory == (FITS if room(found.need, board) else NOT)
    assert found.uncertainty == PUBLISHED
    late = found.need.nanoseconds * found.uncertainty > found.demand.deadline
    assert (found.verdict == FITS) == (found.memory == FITS and not late)


@pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))
@pytest.mark.parametrize(("path", "rate", "block"), [(AMP, 48000, 64), (AMP, 48000, 512), (VAD, 16000, 160), (SENSOR, 10, 1)])
def test_the_largest_size_fits_and_the_next_one_does_not(path: Path, rate: float, block: int, board: Board) -> None:
    found = answer(real(path), board, rate, block, 160 if path == VAD else 1)
    assert found.largest is not None
    model = Model(real(path), CODE)

    def fits(hidden: int) -> bool:
        need = model.need(board, found.demand, hidden / found.hidden)
        in_time = timing(need.nanoseconds, found.demand.deadline, found.uncertainty)
        return room(need, board) and in_time == FITS

    assert not fits(found.largest + 1)
    assert found.largest == 0 or fits(found.largest)
    assert (found.verdict == FITS) == (found.hidden <= found.largest)


def test_memory_alone_can_be_what_does_not_fit() -> None:
    small = replace(M4, flash=20_000)
    found = answer(real(VAD), small, rate=1)
    assert (found.time, found.memory, found.verdict) == (FITS, NOT, NOT)
    one_memory = replace(small, flash=0, ram=CODE + real(VAD).weights.nbytes)
    assert answer(real(VAD), one_memory, rate=1).memory == NOT
    assert answer(real(VAD), replace(one_memory, ram=one_memory.ram + real(VAD).arena_bytes), rate=1).memory == FITS


@given(st.integers(0, 300), st.integers(0, 300))
def test_last_finds_what_a_walk_finds(limit: int, end: int) -> None:
    assert last(lambda n: n <= limit, end) == max((n for n in range(1, end + 1) if n <= limit), default=0)


@pytest.mark.parametrize(("block", "hop", "steps"), [(64, 1, 64), (64, 512, 1), (160, 160, 1), (200, 160, 2)])
def test_a_callback_makes_the_most_steps_that_can_be_due(block: int, hop: int, steps: int) -> None:
    assert demand(48000, block, hop).steps == steps
    assert demand(48000, block, hop).deadline == pytest.approx(1e9 * block / 48000)


@pytest.mark.parametrize("given_", [(0, 1, 1), (-48000, 1, 1), (inf, 1, 1), (float("nan"), 1, 1), (1, 0, 1), (1, 1, -2)])
def test_rate_block_and_hop_are_above_zero(given_: Sequence[float]) -> None:
    rate, block, hop = given_
    with pytest.raises(InputError, match=r"--(rate|block|hop) .* must be above zero"):
        demand(rate, int(block), int(hop))


# -- machines ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))
def test_a_board_is_a_target_and_its_memory_gets_slower_with_its_size(board: Board) -> None:
    assert board.name in TARGETS
    sizes, rates = zip(*board.reads, strict=True)
    assert list(sizes) == sorted(set(sizes))
    assert list(rates) == sorted(rates, reverse=True)
    found = [board.read_rate(size) for size in (1, 1000, *(s + d for s in sizes for d in (-1, 0, 1)), 1 << 40)]
    assert max(found) == rates[0]
    assert min(found) == found[-1] == rates[-1]
    assert [board.read_rate(size) for size in sizes] == pytest.approx(rates)


def test_between_two_sizes_the_rate_lies_between_their_rates() -> None:
    board = replace(PI4, reads=((100, 8.0), (400, 2.0)))
    assert board.read_rate(200) == pytest.approx(5.0)


def test_targets_without_a_machine_are_refused_with_the_names_that_have_one() -> None:
    with pytest.raises(UnsupportedError, match=r"'wasm32' is no one machine.*pi4.*'host' is measured"):
        find_board("wasm32")


def test_the_kernel_of_the_roofline_reads_every_number_once() -> None:
    x, y = np.arange(256, dtype=np.float32), np.zeros(16, np.float32)
    read(2, 256, x, y)
    assert y.sum() == 2 * x.sum()


def test_the_kernels_of_the_roofline_make_as_many_multiply_adds_as_they_say() -> None:
    x, y = np.arange(128, dtype=np.float32), np.zeros(16, np.float32)
    expected = x.reshape(8, 16).astype(np.float64)
    for _ in range(3):
        expected = expected / 2 + 0.5
    multiply(3, x, y)
    np.testing.assert_allclose(y, expected.sum(0), rtol=1e-6)
    follow(3, x, y)
    np.testing.assert_allclose(y, 1 + (x[:16].astype(np.float64) - 1) / 2**24, rtol=1e-6)


def test_caches_are_read_from_the_system(tmp_path: Path) -> None:
    for i, (level, kind, size) in enumerate([("1", "Data", "32K"), ("1", "Instruction", "32K"), ("2", "Unified", "1024K")]):
        (tmp_path / f"index{i}").mkdir()
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (tmp_path / f"index{i}" / name).write_text(f"{text}\n")
    assert caches(tmp_path) == [("L1", 32 << 10), ("L2", 1 << 20)]
    with pytest.raises(UnsupportedError, match="how large the caches are"):
        caches(tmp_path / "none")


def test_this_machine_is_measured_with_numba_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "compilers", dict)
    roofline.host_board.cache_clear()
    with pytest.raises(MissingExtraError, match="pip install numba"):
        roofline.host_board()


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_says_the_same_in_its_exit_code_its_last_line_and_json(tmp_path: Path) -> None:
    fits = run("fit", AMP, "--target", "pi4", "--rate", "48000", "--block", "64", "--json", tmp_path / "fit.json")
    assert fits.returncode == 0, fits.stderr
    assert fits.stdout.rstrip().splitlines()[-1].startswith("fits pi4: a callback takes about")
    found = json.loads((tmp_path / "fit.json").read_text())
    assert (found["verdict"], found["target"], found["steps"]) == (FITS, "pi4", 64)
    assert found["callback_ns"] * found["uncertainty"] <= found["deadline_ns"]
    assert found["flash_bytes"] - found["code_bytes"] == load(AMP).plan.weights.nbytes
    late = run("fit", VAD, "--target", "cortex-m4", "--rate", "4000000", "--json", "-")
    assert late.returncode == 1
    assert json.loads(late.stdout)["verdict"] == NOT


def test_this_machine_is_measured() -> None:
    done = run("fit", SENSOR, "--rate", "1", "--json", "-")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["target"], found["source"], found["verdict"]) == ("host", "measured", FITS)


def test_a_model_that_does_not_say_its_rate_needs_one(tmp_path: Path) -> None:
    path = tmp_path / "small.srnn"
    save_graph(align(streamify(recurrent_clip(), {"x": 0})), path)
    assert "it does not say at which rate its samples come; give --rate" in refused("fit", path, "--target", "pi4")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([AMP, "--target", "pi44"], "there is no target 'pi44'; did you mean 'pi4'?"),
        ([AMP, "--target", "wasm32"], "is no one machine whose speed is known"),
        ([AMP, "--rate", "0"], "--rate 0: it must be above zero"),
        ([AMP, "--target", "pi4", "--block", "-1"], "--block -1: it must be above zero"),
        ([AMP, "--target", "pi4", "--hop", "0"], "--hop 0: it must be above zero"),
        ([__file__, "--target", "pi4", "--rate", "1"], "test_fit.py"),
        (["none.onnx", "--target", "pi4", "--rate", "1"], "none.onnx: there is no such file"),
    ],
)
def test_bad_input_is_one_clear_error(args: Sequence[object], message: str) -> None:
    assert message in refused("fit", *args)
