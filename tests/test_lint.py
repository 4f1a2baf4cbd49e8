"""Lint: every code is found where it is and nowhere else; what `--fix` repairs is what onnxruntime is then asked about."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import lint_files
import numpy as np
import onnx
import onnx_files as files
import pytest
from lint_files import PAIRS, Maker, clip, step, weights
from streamrnn_converters import convert
from streamrnn_converters.lint.rules import RULES
from streamrnn_converters.lint.run import lint
from streamrnn_converters.validate import validate

from streamrnn import BindingError, Engine, cli, load


def codes(path: Path) -> set[str]:
    return {finding.code for finding in lint(path)[0]}


@pytest.mark.parametrize(("code", "bad", "good"), [(c, *pair) for c, pairs in PAIRS.items() for pair in pairs])
def test_a_fault_is_found_and_its_absence_too(tmp_path: Path, code: str, bad: Maker, good: Maker) -> None:
    for folder in ("bad", "good"):
        (tmp_path / folder).mkdir()
    findings, _ = lint(bad(tmp_path / "bad"))
    (found,) = (f for f in findings if f.code == code)
    assert found.level in (RULES[code].level, "note")
    assert found.where
    assert found.text
    assert found.remedy
    assert bool(found.edits) == bool(RULES[code].fix)
    assert code not in codes(good(tmp_path / "good"))


def test_every_rule_has_files() -> None:
    assert set(PAIRS) == set(RULES)


def test_the_projects_own_models_have_no_fault() -> None:
    folder = Path(__file__).resolve().parent.parent / "examples" / "models"
    for path in folder.glob("*.onnx"):
        assert [f for f in lint(path)[0] if f.level != "note"] == [], path


def test_what_cannot_be_converted_is_linted_as_a_file(tmp_path: Path) -> None:
    findings, problem = lint(lint_files.poisoned(np.nan)(tmp_path))
    assert [f.code for f in findings] == ["SR401"]
    assert "NaN" in str(problem)


def test_findings_are_kept_in_the_converted_file(tmp_path: Path) -> None:
    path = lint_files.bins(5)(tmp_path)
    Engine(convert(path)).save(tmp_path / "model.srnn")
    meta = load(tmp_path / "model.srnn").meta
    assert [row[0] for row in meta["lint"]] == ["SR102"]  # type: ignore[attr-defined]


def test_the_command_prints_findings_and_exits_by_their_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*args: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["streamrnn", *map(str, args)])
        with pytest.raises(SystemExit) as leaving:
            cli.main()
        return int(leaving.value.code or 0), capsys.readouterr().out

    assert command("lint", clip()(tmp_path)) == (0, "")
    code, out = command("lint", lint_files.bins(5)(tmp_path))
    assert (code, "SR102" in out) == (0, True)
    code, out = command("lint", lint_files.tiny(2)(tmp_path), "--json", "-")
    found = json.loads(out)
    assert (code, found["conversion"]) == (1, None)
    (finding,) = found["findings"]
    assert (finding["code"], finding["level"], finding["where"]) == ("SR402", "warning", "tensor 'R'")
    code, out = command("lint", lint_files.poisoned(np.nan)(tmp_path), "--json", "-")
    assert (code, "NaN" in json.loads(out)["conversion"]) == (1, True)


def test_a_recurrence_that_is_written_out_is_not_streamed_along_another_axis_unasked(tmp_path: Path) -> None:
    """Its positions could be taken for time, since convolutions remember along them."""
    path = lint_files.conv_elman(4, odd=True)(tmp_path)
    graph = convert(path)
    assert (graph.meta["mode"], "writes a recurrence out" in str(graph.meta["mode_reason"])) == ("window", True)
    assert convert(path, time_axis={"x": 2}).meta["mode"] == "frame"


# -- repairs --------------------------------------------------------------------------------------------------------


def with_attribute(path: Path, name: str, value: int) -> Path:
    """The file as it should have been written."""
    proto = onnx.load(path)
    for node in proto.graph.node:
        if node.op_type == "GRU":
            kept = [a for a in node.attribute if a.name != name]
            del node.attribute[:]
            node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])
    mended = path.with_name("mended.onnx")
    onnx.save(proto, mended)
    return mended


def test_a_gru_that_lost_its_form_is_repaired_and_judged_as_repaired(tmp_path: Path) -> None:
    path = lint_files.by("pytorch", "2.10.0", 0)(tmp_path)
    mended = with_attribute(path, "linear_before_reset", 1)
    fixed, plain = convert(path, fix=["SR101"]), convert(path)
    report = validate(path, Engine(fixed), steps=20)
    assert report.passed
    assert any("repair of SR101" in note for note in report.notes)
    assert validate(mended, Engine(fixed.replace(meta={**fixed.meta, "fixes": []})), steps=20).passed
    assert not validate(mended, Engine(plain), steps=20).passed
    assert "SR101" not in {row[0] for row in fixed.meta["lint"]}  # type: ignore[attr-defined]
    assert [row[0] for row in fixed.meta["fixes"]] == ["SR101"]  # type: ignore[attr-defined]


def test_a_repair_reaches_into_branches(tmp_path: Path) -> None:
    lost = h_gru("inner", 0)
    branches = {
        key: files.branch([lost], [("inner", files.F32, None)], weights("GRU")) for key in ("then_branch", "else_branch")
    }
    nodes = [
        onnx.helper.make_node("If", ["cond"], ["all"], name="choose", **branches),
        onnx.helper.make_node("Tanh", ["all"], ["y"], name="y"),
    ]
    inputs = [("x", files.F32, [6, 1, 3]), ("cond", files.BOOL, [])]
    proto = files.make(nodes, inputs, [("y", files.F32, None)], producer_name="pytorch")
    path = files.save(proto, tmp_path)
    graph = convert(path, mode="window", bind={"cond": True}, fix=["all"])
    (gru,) = (node for node in graph.nodes if node.op == "GRU")
    assert gru.attrs["linear_before_reset"] == 1


def test_a_repair_reaches_into_local_functions(tmp_path: Path) -> None:
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("own", 1)]
    call = onnx.helper.make_node("layer", ["x", "W", "R", "B"], ["all"], name="call", domain="own")
    lost = onnx.helper.make_node("GRU", ["x", "W", "R", "B"], ["all"], hidden_size=4)
    function = onnx.helper.make_function("own", "layer", ["x", "W", "R", "B"], ["all"], [lost], opsets)
    nodes = [call, onnx.helper.make_node("Tanh", ["all"], ["y"], name="y")]
    inputs, outputs = [("x", files.F32, ["T", 1, 3])], [("y", files.F32, None)]
    constants = weights("GRU")
    proto = files.make(nodes, inputs, outputs, constants, domains=("own",), functions=[function], producer_name="pytorch")
    path = files.save(proto, tmp_path)
    graph = convert(path, fix=["SR101"])
    assert validate(path, Engine(graph), steps=10).passed
    (gru,) = (node for node in graph.nodes if node.op == "GRU")
    assert gru.attrs["linear_before_reset"] == 1


def h_gru(output: str, form: int) -> onnx.NodeProto:
    return onnx.helper.make_node("GRU", ["x", "W", "R", "B"], [output], name=output, hidden_size=4, linear_before_reset=form)


def test_denormal_weights_become_zero_and_nothing_else_changes(tmp_path: Path) -> None:
    path = lint_files.tiny(3)(tmp_path)
    fixed, plain = convert(path, fix=["SR402"]), convert(path)
    tiny = np.finfo(np.float32).tiny
    for name, array in plain.constants.items():
        expected = np.where(np.abs(array) < tiny, 0, array) if array.dtype.kind == "f" else array
        np.testing.assert_array_equal(fixed.constants[name], expected)
    assert any((np.abs(a) < tiny).any() and a.any() for a in plain.constants.values() if a.dtype.kind == "f")
    assert validate(path, Engine(fixed), steps=10).passed


def test_a_state_that_nothing_takes_is_dropped(tmp_path: Path) -> None:
    path = clip(("T", 1, 3), also={"h_n": [1, 1, 4]})(tmp_path)
    assert convert(path).outputs == ("y", "h_n")
    fixed = convert(path, fix=["SR201"])
    assert fixed.outputs == ("y",)
    assert validate(path, Engine(fixed), steps=10).passed


@pytest.mark.parametrize("make", [clip(("T", 5, 3)), step("RNN", batch=3)])
def test_a_batch_that_is_one_becomes_one(tmp_path: Path, make: Maker) -> None:
    path = make(tmp_path)
    fixed = convert(path, fix=["SR301"])
    engine = Engine(fixed)
    assert {info.shape for info in engine.inputs.values()} == {(3,)} if "time_axes" in fixed.meta else {(1, 3)}
    assert validate(path, engine, steps=10).passed


def test_a_batch_whose_signals_are_mixed_is_left(tmp_path: Path) -> None:
    nodes = [lint_files.node("ReduceMean", "all axis", "mean"), lint_files.node("Sub", "all mean", "z")]
    path = clip(("T", 5, 3), {"axis": np.array([2])}, nodes=nodes, outputs={"z": None})(tmp_path)
    assert "SR301" in codes(path)
    with pytest.raises(BindingError, match="mixes signals"):
        convert(path, fix=["SR301"])


@pytest.mark.parametrize(
    ("fix", "words"),
    [(["SR101"], "finds nothing of that kind"), (["SR999"], "can be repaired"), (["SR401"], "can be repaired")],
)
def test_a_code_that_repairs_nothing_is_refused(tmp_path: Path, fix: list[str], words: str) -> None:
    with pytest.raises(BindingError, match=words):
        convert(clip()(tmp_path), fix=fix)


def test_all_repairs_what_there_is(tmp_path: Path) -> None:
    graph = convert(clip()(tmp_path), fix=["all"])
    assert "fixes" not in graph.meta
