"""Folding: what is left of a file computes what the file computes, and what cannot be folded is said once, in full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_files import BOOL, F32, I64, Typed, branch, make, noise, ops, run_file, run_graph, save
from streamrnn_converters.onnx.raw import RawModel
from streamrnn_converters.onnx.reader import read_model
from streamrnn_converters.passes import effort
from streamrnn_converters.passes.declutter import declutter
from streamrnn_converters.passes.fold import fold

from streamrnn.errors import BindingError, ModelFileError, ShapeError, UnsupportedError
from streamrnn.ir.graph import Array, Graph, Stage
from streamrnn.ir.op import get_op
from streamrnn.ir.types import DType, TensorType

node = helper.make_node
X: Typed = ("x", F32, [2, 3])
Y: Typed = ("y", F32, None)  # type: ignore[assignment]


def folded(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Array] | None = None,
    outputs: Sequence[Typed] = (Y,),
    inputs: Sequence[Typed] = (X,),
) -> Graph:
    """The folded graph of a file, checked against onnxruntime on that file."""
    path = save(make(nodes, inputs, outputs, constants), folder)
    graph = fold(read_model(path))
    feeds = {name: noise(k, *(int(d or 1) for d in dims)) for k, (name, _, dims) in enumerate(inputs)}
    for found, expected in zip(run_graph(graph, feeds), run_file(path, feeds), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    return graph


def raw(folder: Path, nodes: Sequence[onnx.NodeProto], inputs: Sequence[Typed] = (X,), **more: object) -> RawModel:
    return read_model(save(make(nodes, inputs, [Y], **more), folder))  # type: ignore[arg-type]


# -- values ---------------------------------------------------------------------------------------------------------


def test_what_depends_on_no_input_is_a_value(tmp_path: Path) -> None:
    nodes = [
        node("Add", ["a", "b"], ["c"]),
        node("Relu", ["c"], ["d"]),
        node("Mul", ["x", "d"], ["y"]),
    ]
    graph = folded(tmp_path, nodes, {"a": noise(1, 3), "b": noise(2, 3)})
    assert graph.stage is Stage.SEQUENCE
    assert ops(graph) == ["Mul"]
    assert list(graph.constants) == ["d"]
    np.testing.assert_array_equal(graph.constants["d"], np.maximum(noise(1, 3) + noise(2, 3), 0))


def test_shapes_are_constants_and_so_is_all_arithmetic_on_them(tmp_path: Path) -> None:
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("Shape", ["r"], ["s"], start=-1),
        node("Size", ["r"], ["n"]),
        node("Div", ["n", "s"], ["rows"]),
        node("Concat", ["s", "rows"], ["t"], axis=0),
        node("Reshape", ["r", "t"], ["y"]),
    ]
    graph = folded(tmp_path, nodes)
    assert ops(graph) == ["Relu", "Reshape"]
    assert graph.types["y"] == TensorType(DType.F32, (3, 2))


def test_nodes_may_stand_in_any_order(tmp_path: Path) -> None:
    nodes = [node("Sub", ["b", "x"], ["y"]), node("Relu", ["a"], ["b"]), node("Tanh", ["x"], ["a"])]
    path = save(make(nodes, [X], [Y]), tmp_path)
    graph = fold(read_model(path))
    assert ops(graph) == ["Tanh", "Relu", "Sub"]
    x = noise(0, 2, 3)
    np.testing.assert_allclose(run_graph(graph, {"x": x})[0], np.maximum(np.tanh(x), 0) - x, rtol=1e-6)


def test_identity_is_only_a_change_of_name(tmp_path: Path) -> None:
    nodes = [
        node("Relu", ["x"], ["a"]),
        node("Identity", ["a"], ["b"]),
        node("Tanh", ["b"], ["c"]),
        node("Identity", ["c"], ["y"]),
    ]
    graph = folded(tmp_path, nodes)
    assert ops(graph) == ["Relu", "Tanh"]
    assert graph.nodes[-1].outputs == ("y",)


def test_every_output_of_a_file_stays_an_output(tmp_path: Path) -> None:
    """A constant, a computed constant, an input under another name, one value under three names."""
    nodes = [
        node("Identity", ["x"], ["copy"]),
        node("Relu", ["k"], ["sum"]),
        node("Relu", ["x"], ["r"]),
        node("Identity", ["r"], ["r1"]),
        node("Identity", ["r"], ["r2"]),
    ]
    names = ["copy", "k", "sum", "r", "r1", "r2"]
    graph = folded(tmp_path, nodes, {"k": noise(1, 3)}, [(name, F32, None) for name in names])  # type: ignore[misc]
    assert graph.outputs == tuple(names)
    assert not set(names) & set(graph.constants)
    assert ops(graph).count("Relu") == 1


def test_an_input_that_no_output_needs_is_dropped_and_named(tmp_path: Path) -> None:
    graph = folded(tmp_path, [node("Relu", ["x"], ["y"])], inputs=[X, ("open", F32, [1])])
    assert graph.inputs == ("x",)
    assert graph.meta["unused_inputs"] == ["open"]


def test_folded_values_have_the_inferred_type(tmp_path: Path) -> None:
    graph = folded(tmp_path, [node("Sigmoid", ["a"], ["b"]), node("Add", ["x", "b"], ["y"])], {"a": noise(1, 3)})
    assert graph.constants["b"].dtype == np.float32


def test_a_value_larger_than_the_cap_stays_a_computation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [node("Add", ["a", "b"], ["c"]), node("Add", ["x", "c"], ["y"])]
    model = raw(tmp_path, nodes, constants={"a": noise(1, 2, 1), "b": noise(2, 3)})
    given = sum(array.nbytes for array in model.constants.values())
    for cap, enough in (("MAX_FOLDED", 24), ("MAX_FOLDED_TOTAL", 24 - given)):
        with monkeypatch.context() as patch:
            patch.setattr(effort, cap, enough - 1)
            assert ops(fold(model)) == ["Add", "Add"]
            patch.setattr(effort, cap, enough)
            assert ops(fold(model)) == ["Add"]


def test_random_ops_are_never_folded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = raw(tmp_path, [node("Relu", ["a"], ["b"]), node("Add", ["x", "b"], ["y"])], constants={"a": noise(1, 3)})
    monkeypatch.setattr(type(get_op(fold(model).nodes[0])), "deterministic", False)
    assert ops(fold(model)) == ["Relu", "Add"]


def test_a_constant_that_is_not_a_number_gives_no_warning(tmp_path: Path) -> None:
    graph = folded(tmp_path, [node("Exp", ["a"], ["b"]), node("Add", ["x", "b"], ["y"])], {"a": np.float32([1e4, 0, 0])})
    assert np.isinf(graph.constants["b"][0])


# -- branches -------------------------------------------------------------------------------------------------------


def two_branches(taken: Sequence[onnx.NodeProto], other: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """y = If(Equal(rate, 16000)) on x; each branch ends in a value "out"."""
    outputs = [("out", F32, [2, 3])]
    then, otherwise = branch(taken, outputs, {"k": noise(1, 3)}), branch(other, outputs, {"k": noise(2, 3)})
    return [node("Equal", ["rate", "wanted"], ["is"]), node("If", ["is"], ["y"], then_branch=then, else_branch=otherwise)]


RATE: Typed = ("rate", I64, [])
WANTED = {"wanted": np.array(16000)}


@pytest.mark.parametrize("rate", [16000, 8000])
def test_the_chosen_branch_replaces_the_if(tmp_path: Path, rate: int) -> None:
    nodes = two_branches(
        [node("Add", ["x", "k"], ["t"], name="same"), node("Relu", ["t"], ["out"])],
        [node("Mul", ["x", "k"], ["t"], name="same"), node("Tanh", ["t"], ["out"])],
    )
    path = save(make(nodes, [X, RATE], [Y], WANTED), tmp_path)
    graph = fold(read_model(path), bind={"rate": np.array(rate)})
    assert graph.inputs == ("x",)
    assert ops(graph) == (["Add", "Relu"] if rate == 16000 else ["Mul", "Tanh"])
    x = noise(0, 2, 3)
    (expected,) = run_file(path, {"x": x, "rate": np.array(rate)})
    np.testing.assert_allclose(run_graph(graph, {"x": x})[0], expected, rtol=1e-6)


def test_the_other_branch_is_never_looked_at(tmp_path: Path) -> None:
    """Nor is what only the other branch needs: an unknown op, shapes that do not fit, a missing value."""
    nodes = two_branches(
        [node("Add", ["x", "k"], ["out"])],
        [node("Unknown", ["odd"], ["t"], domain="own"), node("MatMul", ["t", "nothing"], ["out"])],
    )
    nodes.insert(0, node("MatMul", ["x", "x"], ["odd"]))
    model = raw(tmp_path, nodes, [X, RATE], constants=WANTED, domains=["own"])
    assert ops(fold(model, bind={"rate": np.array(16000)})) == ["Add"]


def test_branches_inside_branches_and_equal_names_everywhere(tmp_path: Path) -> None:
    """Two Ifs with the same bodies one after the other, each with an If inside: SSA form has to survive."""
    inner = branch([node("Add", ["v", "k"], ["out"])], [("out", F32, [2, 3])], {"k": noise(5, 3)})
    body = [
        node("Mul", ["from", "k"], ["v"], name="m"),
        node("If", ["yes"], ["w"], name="i", then_branch=inner, else_branch=inner),
        node("Relu", ["w"], ["out"], name="r"),
    ]

    def outer(source: str, result: str) -> onnx.NodeProto:
        nodes = [helper.make_node("Identity", [source], ["from"]), *body]
        then = branch(nodes, [("out", F32, [2, 3])], {"k": noise(6, 3)})
        return node("If", ["yes"], [result], then_branch=then, else_branch=then)

    nodes = [outer("x", "first"), outer("first", "second"), node("Tanh", ["second"], ["y"])]
    graph = fold(raw(tmp_path, nodes, constants={"yes": np.array(True), "k": noise(7, 3)}))
    assert ops(graph) == ["Mul", "Add", "Relu"] * 2 + ["Tanh"]
    assert len({n.name for n in graph.nodes}) == 7
    expected = noise(0, 2, 3)
    for _ in range(2):
        expected = np.maximum(expected * noise(6, 3) + noise(5, 3), 0)
    np.testing.assert_allclose(run_graph(graph, {"x": noise(0, 2, 3)})[0], np.tanh(expected), rtol=1e-6)


def test_a_branch_may_hand_out_what_lies_around_it(tmp_path: Path) -> None:
    body = branch([], [("x", F32, [2, 3])])
    graph = fold(
        raw(tmp_path, [node("If", ["yes"], ["y"], then_branch=body, else_branch=body)], constants={"yes": np.array(True)})
    )
    np.testing.assert_array_equal(run_graph(graph, {"x": noise(0, 2, 3)})[0], noise(0, 2, 3))


def test_branches_of_different_shapes_name_the_input_to_bind(tmp_path: Path) -> None:
    nodes = two_branches([node("Add", ["x", "k"], ["out"])], [node("ReduceSum", ["x"], ["out"])])
    with pytest.raises(UnsupportedError, match=r"\(If\): its condition is computed at run time.*--bind rate=VALUE"):
        fold(raw(tmp_path, nodes, [X, RATE], constants=WANTED))


# -- what is wrong --------------------------------------------------------------------------------------------------


def test_all_that_is_not_supported_is_listed_at_once(tmp_path: Path) -> None:
    nodes = [
        node("Det", ["x"], ["a"], name="first"),
        node("Det", ["a"], ["b"], name="second"),
        node("Fancy", ["b"], ["c"], name="third", domain="own"),
        node("Attention", ["c"], ["d"], name="fourth", domain="com.microsoft"),
        node("Relu", ["d"], ["e"], name="fine"),
        node("Mod", ["e", "e"], ["y"], name="fifth", fmod=1),
        node("Det", ["x"], ["z"], name="nobody needs this one"),
    ]
    with pytest.raises(UnsupportedError) as caught:
        fold(raw(tmp_path, nodes, domains=["own", "com.microsoft"]))
    text = str(caught.value)
    for part in (
        "'first', 'second' (Det)",
        "'third' (own.Fancy)",
        "'fourth' (com.microsoft.Attention)",
        "domain 'own'",
    ):
        assert part in text
    assert "fine" not in text
    assert "nobody" not in text


def test_what_only_unwanted_outputs_need_does_not_matter(tmp_path: Path) -> None:
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("Tanh", ["r"], ["y"]),
        node("Det", ["open"], ["n"]),
        node("Add", ["r", "n"], ["z"]),
    ]
    model = read_model(save(make(nodes, [X, ("open", F32, [None])], [Y, ("z", F32, None)]), tmp_path))  # type: ignore[list-item]
    with pytest.raises(UnsupportedError, match=r"(?s)Det.*--outputs y$"):
        fold(model, {"open": (2,)})
    graph = fold(model, outputs=["y"])
    assert (graph.inputs, graph.outputs, ops(graph)) == (("x",), ("y",), ["Relu", "Tanh"])
    with pytest.raises(BindingError, match=r"'w'.*the model has y, z"):
        fold(model, outputs=["w"])


def test_outputs_come_in_the_order_asked_for(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["y"]), node("Tanh", ["x"], ["z"])]
    model = read_model(save(make(nodes, [X], [Y, ("z", F32, None)]), tmp_path))  # type: ignore[list-item]
    assert fold(model).outputs == ("y", "z")
    assert fold(model, outputs=["z", "y"]).outputs == ("z", "y")


@pytest.mark.parametrize(
    ("nodes", "error", "message"),
    [
        ([node("Add", ["x", "z"], ["y"]), node("Relu", ["y"], ["z"])], ModelFileError, "cycle"),
        ([node("Add", ["x", "gone"], ["y"])], ModelFileError, "reads 'gone', which nothing computes"),
        ([node("Relu", ["x"], ["z"])], ModelFileError, "outputs reads 'y'"),
        ([node("Relu", ["x"], ["y"]), node("Tanh", ["x"], ["y"])], ModelFileError, "'y' is computed twice"),
        ([node("Relu", ["x"], ["x"]), node("Tanh", ["x"], ["y"])], ModelFileError, "input 'x' is also computed"),
        ([node("MatMul", ["x", "x"], ["y"], name="m")], ShapeError, r"node 'm' \(MatMul\)"),
        ([node("Add", ["x", "short"], ["y"])], UnsupportedError, r"Add of \(float32, int16\)"),
    ],
)
def test_a_graph_that_makes_no_sense_is_refused(
    tmp_path: Path, nodes: list[onnx.NodeProto], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fold(raw(tmp_path, nodes, constants={"short": np.array([1, 2, 3], np.int16)}))


# -- shapes and values from outside ---------------------------------------------------------------------------------

OPEN: list[Typed] = [("x", F32, ["batch", None]), ("state", F32, [2, "batch"])]


def test_an_open_dimension_is_named_with_the_option_that_fixes_it(tmp_path: Path) -> None:
    model = raw(tmp_path, [node("MatMul", ["state", "x"], ["y"])], OPEN)
    with pytest.raises(
        BindingError, match=r"input 'x' is declared as \[batch, \?\]: dimension 0 \('batch'\).*--shape x=1,SIZE"
    ):
        fold(model)
    with pytest.raises(BindingError, match=r"'state'.*dimension 1 \('batch'\)"):
        fold(model)


def test_a_dimension_fixed_once_is_fixed_for_every_input_with_its_symbol(tmp_path: Path) -> None:
    graph = fold(raw(tmp_path, [node("MatMul", ["state", "x"], ["y"])], OPEN), {"x": (4, 5)})
    assert [graph.types[name].shape for name in ("x", "state", "y")] == [(4, 5), (2, 4), (2, 5)]


@pytest.mark.parametrize(
    ("shapes", "bind", "message"),
    [
        ({"z": (1,)}, {}, "--shape z: no input has that name; the model has x, state"),
        ({"x": (1, -1)}, {}, "whole numbers from 0 on"),
        ({"x": (1, 1 << 50)}, {}, "whole numbers from 0 on"),
        ({"x": (1, 2, 3)}, {}, r"--shape x=1,2,3: the model declares input 'x' as \[batch, \?\]"),
        ({"x": (1, 2), "state": (3, 1)}, {}, r"--shape state=3,1"),
        ({}, {"z": 1}, "--bind z: no input has that name"),
        ({"x": (1, 2)}, {"state": np.zeros((3, 1))}, r"shape \[3, 1\] does not fit input 'state' \[2, batch\]"),
        ({"x": (1, 2)}, {"state": "loud"}, "does not fit an input of float32|does not fit input 'state'"),
    ],
)
def test_a_binding_that_does_not_fit_is_refused(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], bind: dict[str, Array], message: str
) -> None:
    with pytest.raises(BindingError, match=message):
        fold(raw(tmp_path, [node("MatMul", ["state", "x"], ["y"])], OPEN), shapes, {k: np.asarray(v) for k, v in bind.items()})


@pytest.mark.parametrize(("dims", "value", "fits"), [([], 3, True), ([1], 3, True), ([1], 3.0, True), ([], 3.5, False)])
def test_one_number_fits_where_one_element_is_declared(tmp_path: Path, dims: list[int], value: float, fits: bool) -> None:
    model = raw(tmp_path, [node("Cast", ["n"], ["f"], to=F32), node("Add", ["x", "f"], ["y"])], [X, ("n", I64, dims)])
    if not fits:
        with pytest.raises(BindingError, match=r"--bind n=3\.5"):
            fold(model, bind={"n": np.array(value)})
        return
    graph = fold(model, bind={"n": np.array(value)})
    assert graph.inputs == ("x",)
    np.testing.assert_array_equal(graph.constants["f"], np.full(dims, 3, np.float32))


def test_inputs_that_no_step_can_take_are_refused(tmp_path: Path) -> None:
    model = raw(tmp_path, [node("Relu", ["h"], ["y"])], [("h", TensorProto.BFLOAT16, [2])])
    with pytest.raises(UnsupportedError, match=r"input 'h' is of bfloat16.*float32"):
        fold(model)


# -- real files -----------------------------------------------------------------------------------------------------

#: model -> (shapes, bindings, most nodes that may be left after declutter: what onnxruntime's basic level or onnxslim leave)
REAL: dict[str, tuple[dict[str, tuple[int, ...]], dict[str, int], int]] = {
    "silero_v6_openvino": ({}, {}, 37),
    "silero_v6_16k_op15": ({"input": (1, 576)}, {"sr": 16000}, 37),
    "silero_v6_ifless": ({"input": (1, 576)}, {"sr": 16000}, 43),
    "silero_v4": ({"input": (1, 512)}, {"sr": 16000}, 74),
    "pose_gru": ({"input": (1, 30, 34)}, {}, 14),
    "dtln_pt_1": ({}, {}, 14),
    "fairtalk_a": ({}, {}, 13),
    "apple_ecg": ({"bidirectional_input": (1, 1000, 1)}, {}, 19),
    "knet_rnn": ({}, {}, 3),
    "gtcrn": ({}, {}, 420),
}


@pytest.mark.parametrize("name", REAL)
def test_real_models_fold_as_far_as_other_optimisers_take_them(models: Path, name: str) -> None:
    shapes, bind, most = REAL[name]
    path = models / "onnx" / f"{name}.onnx"
    graph = declutter(fold(read_model(path), shapes, {key: np.array(value) for key, value in bind.items()}))
    assert 0 < len(graph.nodes) <= most
    assert not set(ops(graph)) & {"If", "Identity", "Shape", "ConstantOfShape"}


@pytest.mark.parametrize("name", REAL)
def test_folded_real_models_compute_what_onnxruntime_computes(models: Path, name: str) -> None:
    shapes, bind, _ = REAL[name]
    path = models / "onnx" / f"{name}.onnx"
    values = {key: np.array(value) for key, value in bind.items()}
    graph = fold(read_model(path), shapes, values)
    feeds = {key: 0.1 * noise(k, *graph.types[key].shape) for k, key in enumerate(graph.inputs)}
    for found, expected in zip(run_graph(graph, feeds), run_file(path, {**feeds, **values}), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_a_boolean_input_may_be_bound(tmp_path: Path) -> None:
    nodes = [node("If", ["loud"], ["y"], then_branch=branch([node("Relu", ["x"], ["a"])], [("a", F32, [2, 3])]),
                  else_branch=branch([node("Tanh", ["x"], ["b"])], [("b", F32, [2, 3])]))]  # fmt: skip
    model = raw(tmp_path, nodes, [X, ("loud", BOOL, [])])
    assert ops(fold(model, bind={"loud": np.array(True)})) == ["Relu"]
    assert ops(fold(model, bind={"loud": np.array(0)})) == ["Tanh"]
