"""The reader: what a file says arrives as it was meant, and every bad file ends in one clear error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_files import BOOL, F32, I64, branch, make, noise, run_graph, save
from streamrnn_converters import convert
from streamrnn_converters.onnx.raw import RawModel
from streamrnn_converters.onnx.reader import read_model
from streamrnn_converters.passes.fold import fold

from streamrnn.errors import ModelFileError, StreamRNNError, UnsupportedError

X = ("x", F32, [1, 3])
Y = ("y", F32, [1, 3])
node = helper.make_node


def read(model: onnx.ModelProto, folder: Path) -> RawModel:
    return read_model(save(model, folder))


# -- what a file says -----------------------------------------------------------------------------------------------


def test_an_input_with_an_initializer_is_a_constant(tmp_path: Path) -> None:
    model = read(make([node("Add", ["x", "b"], ["y"])], [X, ("b", F32, [3])], [Y], {"b": noise(0, 3)}), tmp_path)
    assert [i.name for i in model.inputs] == ["x"]
    np.testing.assert_array_equal(model.constants["b"], noise(0, 3))


@pytest.mark.parametrize(
    ("attrs", "expected"),
    [
        ({"value": numpy_helper.from_array(np.array([1.5, 2], np.float64))}, np.array([1.5, 2], np.float64)),
        ({"value_float": 1.5}, np.array(1.5, np.float32)),
        ({"value_floats": [1.5, 2.0]}, np.array([1.5, 2], np.float32)),
        ({"value_int": 7}, np.array(7, np.int64)),
        ({"value_ints": [7, -8]}, np.array([7, -8], np.int64)),
    ],
)
def test_every_form_of_constant_node_is_a_constant(tmp_path: Path, attrs: dict[str, object], expected: np.ndarray) -> None:
    model = read(make([node("Constant", [], ["c"], **attrs), node("Relu", ["x"], ["y"])], [X], [Y]), tmp_path)
    assert [n.op for n in model.nodes] == ["Relu"]
    assert model.constants["c"].dtype == expected.dtype
    np.testing.assert_array_equal(model.constants["c"], expected)


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float64, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint32, np.bool_]
)
@pytest.mark.parametrize("raw", [True, False])
def test_weights_arrive_whatever_field_holds_them(tmp_path: Path, dtype: type, raw: bool) -> None:
    array = np.array([[0, 1, 3], [100, 7, 1]]).astype(dtype)
    proto = make([node("Relu", ["x"], ["y"])], [X], [Y], {"w": array})
    if not raw:
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        proto.graph.initializer[0].CopyFrom(helper.make_tensor("w", kind, array.shape, array.reshape(-1).tolist()))
    found = read(proto, tmp_path).constants["w"]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, array)


def test_tensor_attributes_and_element_types_become_numbers_and_names(tmp_path: Path) -> None:
    fill = numpy_helper.from_array(np.array([True]))
    nodes = [
        node("Cast", ["x"], ["a"], to=TensorProto.INT64),
        node("ConstantOfShape", ["a"], ["b"], value=fill),
        node("Cast", ["b"], ["y"], to=TensorProto.FLOAT16),
    ]
    cast, constant, half = read(make(nodes, [X], [Y]), tmp_path).nodes
    assert cast.attrs == {"to": "int64"}
    assert constant.attrs == {"value": 1, "dtype": "bool"}
    assert half.attrs == {"to": "float16"}


def test_names_of_nodes_are_unique(tmp_path: Path) -> None:
    body = branch([node("Relu", ["x"], ["i"], name="same"), node("Neg", ["i"], ["o"])], [("o", F32, [1, 3])])
    nodes = [
        node("Relu", ["x"], ["a"], name="same"),
        node("Relu", ["a"], ["b"], name="same"),
        node("Relu", ["b"], ["c"]),
        node("Relu", ["c"], ["d"], name="Relu_2"),
        node("If", ["t"], ["y"], then_branch=body, else_branch=body),
    ]
    model = read(make(nodes, [X, ("t", BOOL, [])], [Y]), tmp_path)
    branches = [n for body in model.nodes[-1].subgraphs.values() for n in body.nodes]
    names = [n.name for n in (*model.nodes, *branches)]
    assert len(set(names)) == len(names) == 9
    assert names[0] == "same"
    assert names[3] == "Relu_2"


def test_open_dimensions_keep_their_symbols(tmp_path: Path) -> None:
    dims = [("x", F32, ["batch", None, 3]), ("s", F32, []), ("o", F32, ["-1", "?", 0])]
    model = read(make([node("Relu", ["x"], ["y"])], dims, [("y", F32, ["batch", None, 3])]), tmp_path)
    assert [i.dims for i in model.inputs] == [("batch", None, 3), (), (None, None, None)]
    assert all(i.ranked for i in model.inputs)
    assert model.outputs[0].dims == ("batch", None, 3)


def test_producer_opset_and_metadata_are_kept(tmp_path: Path) -> None:
    proto = make([node("Relu", ["x"], ["y"])], [X], [Y], opset=15, producer_name="pytorch", producer_version="2.10")
    helper.set_model_props(proto, {"sample_rate": "16000"})
    model = read(proto, tmp_path)
    assert (model.producer, model.opset, model.metadata) == ("pytorch 2.10", 15, {"sample_rate": "16000"})
    assert model.name == "model"


def test_ops_of_other_domains_keep_their_domain(tmp_path: Path) -> None:
    nodes = [
        node("Attention", ["x"], ["a"], domain="com.microsoft"),
        node("Relu", ["a"], ["y"], domain="ai.onnx"),
    ]
    model = read(make(nodes, [X], [Y], domains=["com.microsoft"]), tmp_path)
    assert [n.op for n in model.nodes] == ["com.microsoft.Attention", "Relu"]


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    opset = [helper.make_opsetid("", 18)]
    twice = helper.make_function("own", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], opset)
    proto = make([node("Twice", ["x"], ["y"], domain="own")], [X], [Y], domains=["own"], functions=[twice])
    assert [n.op for n in read(proto, tmp_path).nodes] == ["Add"]


# -- bad files ------------------------------------------------------------------------------------------------------


def good() -> onnx.ModelProto:
    return make([node("Add", ["x", "w"], ["y"])], [X], [Y], {"w": noise(1, 1, 3)})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"PK\x03\x04rest", "zip archive"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"\x1c\0\0\0TFL3", "TensorFlow Lite"),
        (b'{"layers": []}', "JSON"),
        (b"<html>", "web page"),
        (b"hello world", "not an ONNX file"),
        (bytes(range(256)), "not an ONNX file"),
        (good().SerializeToString()[:-40], "cut short"),
        (b"\x08\x08", "no graph"),
    ],
)
def test_a_file_that_is_no_model_is_named_for_what_it_is(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=message) as caught:
        read_model(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(ModelFileError, match="cannot be read"):
            read_model(path)


def test_opsets_newer_than_the_installed_onnx_are_refused(tmp_path: Path) -> None:
    proto = good()
    proto.opset_import[0].version = 9999
    with pytest.raises(UnsupportedError, match="pip install -U onnx"):
        read(proto, tmp_path)


@pytest.mark.parametrize("opset", [1, 6])
def test_of_opsets_before_7_the_ops_that_have_not_changed_until_then_are_read(tmp_path: Path, opset: int) -> None:
    """Not and Shape are as old as ONNX; Add broadcast by an attribute."""
    nodes = [helper.make_node("Not", ["b"], ["y"]), helper.make_node("Add", ["x", "x"], ["z"])]
    proto = make(nodes, [("b", BOOL, [2]), ("x", F32, [2])], [("y", BOOL, [2]), ("z", F32, [2])], opset=opset)
    not_, add = read(proto, tmp_path).nodes
    assert not not_.problem
    assert f"opset {opset} is not that of opset 7" in add.problem
    b = np.array([True, False])
    path = save(proto, tmp_path)
    assert np.array_equal(run_graph(convert(path, outputs=["y"], mode="window"), {"b": b})[0], ~b)
    with pytest.raises(UnsupportedError, match="version_converter"):
        convert(path, mode="window")


@pytest.mark.parametrize("opset", [0, -1])
def test_there_is_no_opset_below_1(tmp_path: Path, opset: int) -> None:
    proto = good()
    proto.opset_import[0].version = opset
    assert all("no op of that name" in node.problem for node in read(proto, tmp_path).nodes)


def test_a_later_file_format_is_refused(tmp_path: Path) -> None:
    proto = good()
    proto.ir_version = onnx.IR_VERSION + 1
    with pytest.raises(UnsupportedError, match="pip install -U onnx"):
        read(proto, tmp_path)


@pytest.mark.parametrize("kind", ["BFLOAT16", "FLOAT8E4M3FN", "INT4", "COMPLEX64"])
def test_element_types_that_no_step_can_hold_are_refused(tmp_path: Path, kind: str) -> None:
    proto = good()
    proto.graph.initializer[0].data_type = TensorProto.DataType.Value(kind)
    with pytest.raises(UnsupportedError, match=rf"tensor 'w'.*{kind.lower()}.*float32"):
        read(proto, tmp_path)


@pytest.mark.parametrize("dims", [[1 << 62, 1 << 62], [-3], [1 << 39, 1 << 39], [4, 3], [1]])
def test_sizes_that_do_not_fit_the_data_are_refused_before_memory_is_taken(tmp_path: Path, dims: list[int]) -> None:
    for raw in (True, False):
        proto = good()
        weights = proto.graph.initializer[0]
        if not raw:
            weights.CopyFrom(helper.make_tensor("w", F32, [1, 3], [1.0, 2.0, 3.0]))
        weights.dims[:] = dims
        with pytest.raises(ModelFileError, match=r"tensor 'w'.*get it again"):
            read(proto, tmp_path)


def external(folder: Path, **entries: str) -> onnx.ModelProto:
    """`good` with its weights 4 bytes into weights.bin."""
    (folder / "weights.bin").write_bytes(bytes(4) + noise(1, 1, 3).tobytes())
    proto = good()
    weights = proto.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "weights.bin", "offset": "4", "length": "12", **entries}.items():
        weights.external_data.add(key=key, value=value)
    return proto


def test_weights_in_a_file_beside_the_model_are_read(tmp_path: Path) -> None:
    for length in ("12", ""):
        model = read(external(tmp_path, length=length), tmp_path)
        np.testing.assert_array_equal(model.constants["w"], noise(1, 1, 3))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "none.bin"}, "'none.bin', which is not there"),
        ({"location": ""}, "outside the model's folder"),
        ({"location": "../weights.bin"}, "outside the model's folder"),
        ({"location": "/etc/passwd"}, "outside the model's folder"),
        ({"offset": "5"}, "do not belong together"),
        ({"offset": "-4"}, "not a size in bytes"),
        ({"offset": "9" * 17}, "do not belong together"),
        ({"length": "8"}, "do not belong together"),
        ({"length": "many"}, "not a size in bytes"),
    ],
)
def test_weights_elsewhere_or_of_another_size_are_refused(tmp_path: Path, entries: dict[str, str], message: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "weights.bin").write_bytes(bytes(64))
    with pytest.raises(ModelFileError, match=f"tensor 'w'.*{message}"):
        read(external(folder, **entries), folder)


def test_weights_behind_a_link_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    proto = external(folder, location="link.bin")
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ModelFileError, match="outside the model's folder"):
        read(proto, folder)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (node("NoSuchOp", ["x"], ["y"]), "no op of that name"),
        (node("Concat", ["x"], ["y"]), "attribute axis is missing"),
        (node("Concat", ["x"], ["y"], axis="1"), "axis is of kind STRING, the op takes INT"),
        (node("Relu", [], ["y"]), "0 inputs"),
        (node("Relu", ["x", "x"], ["y"]), "2 inputs"),
        (node("Relu", ["x"], ["y", "z"]), "2 outputs"),
    ],
)
def test_a_node_that_breaks_its_definition_is_an_error_only_where_it_is_needed(
    tmp_path: Path, broken: onnx.NodeProto, message: str
) -> None:
    relu = node("Relu", ["x"], ["o"])
    model = read(make([broken, relu], [X], [Y, ("o", F32, [1, 3])]), tmp_path)
    with pytest.raises(UnsupportedError, match=message):
        fold(model)
    assert fold(model, outputs=["o"]).outputs == ("o",)


def test_damage_anywhere_in_a_file_ends_in_one_of_the_package_s_errors(tmp_path: Path) -> None:
    """Every byte once changed, and the file cut at every byte: it is read as something else, or refused."""
    attrs = numpy_helper.from_array(np.array([2.0], np.float32))
    nodes = [
        node("ConstantOfShape", ["n"], ["c"], value=attrs),
        node("Concat", ["x", "c"], ["d"], axis=1),
        node("Slice", ["d", "s", "e"], ["f"]),
        node("LSTM", ["g", "w", "r"], ["", "h"], hidden_size=2),
        node("Transpose", ["f"], ["t"], perm=[1, 0]),
        node("Unsqueeze", ["t", "n1"], ["g"]),
        node("Squeeze", ["h"], ["y"]),
    ]
    constants = {
        "n": np.array([1, 2]), "s": np.array([0, 0]), "e": np.array([1, 4]), "n1": np.array([1]),
        "w": noise(1, 1, 8, 1), "r": noise(2, 1, 8, 2),
    }  # fmt: skip
    data = make(nodes, [X], [("y", F32, [2])], constants).SerializeToString()
    path = tmp_path / "model.onnx"
    rng = np.random.default_rng(3)
    path.write_bytes(data)
    assert fold(read_model(path)).outputs == ("y",)
    damaged = [data[:i] for i in range(len(data))]
    damaged += [data[:i] + bytes([int(rng.integers(256))]) + data[i + 1 :] for i in range(len(data))]
    for piece in damaged:
        path.write_bytes(piece)
        try:
            fold(read_model(path))
        except StreamRNNError:
            continue


@pytest.mark.parametrize(
    ("name", "message"),
    [("git_lfs_pointer.onnx", "git lfs pull"), ("external_data_missing.onnx", r"decoder\.onnx\.data")],
)
def test_bad_files_that_others_published_are_refused(models: Path, name: str, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        read_model(models / "bad" / name)


def test_every_model_of_the_collection_is_read(models: Path) -> None:
    for path in sorted((models / "onnx").glob("*.onnx")):
        model = read_model(path)
        assert model.nodes
        assert not [n for n in model.nodes if n.problem]


def test_int64_inputs_and_unknown_ranks_are_declared_as_such(tmp_path: Path) -> None:
    proto = make([node("Relu", ["x"], ["y"])], [X, ("n", I64, [])], [Y])
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    model = read(proto, tmp_path)
    assert [(i.name, i.dtype, i.dims, i.ranked) for i in model.inputs] == [
        ("x", "float32", (), False),
        ("n", "int64", (), True),
    ]
