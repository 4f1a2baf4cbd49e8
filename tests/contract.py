"""The contract of an op, as tests. A test file lists cases, the properties are here.

    class TestGRU(Contract):
        cases = [Case("GRU", (x, W, R, B), {"hidden_size": 4}, outputs=2, time={0: 0})]

Oracles: float64 `Op.reference` for the compiled step, onnxruntime for `Op.reference`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pytest
from streamrnn_converters.passes.align import align
from streamrnn_converters.passes.streamify import streamify

from streamrnn import Engine, Stream, StreamPool
from streamrnn.blocks import Form
from streamrnn.codegen.interpret import Interpreter
from streamrnn.errors import NotStreamableError
from streamrnn.ir.file import load_graph, save_graph
from streamrnn.ir.graph import Array, Attr, Graph, Node, Stage
from streamrnn.ir.op import Op, Site, get_op
from streamrnn.ir.types import TensorType
from streamrnn.ir.verify import verify

#: an opset that both the oldest supported onnx and onnxruntime know
OPSET = 22


@dataclass
class Case:
    """One node with its inputs.

    inputs:   arrays as the file would hold them; None for an omitted optional one.
    attrs:    attributes in streamrnn's form; `onnx_attrs` where onnxruntime wants them differently.
    outputs:  how many outputs the node names.
    live:     indices of inputs that are fed at run time; the others are constants.
    time:     input index -> time axis: the case also runs as a stream, frame by frame.
    refused:  text of the NotStreamableError that frame mode must raise instead.
    bodies:   graphs that the node runs.
    """

    op: str
    inputs: tuple[Array | None, ...]
    attrs: Mapping[str, Attr] = field(default_factory=dict)
    outputs: int = 1
    live: tuple[int, ...] = (0,)
    time: Mapping[int, int] = field(default_factory=dict)
    refused: str = ""
    onnx: bool = True
    onnx_attrs: Mapping[str, Any] | None = None
    domain: str = ""
    label: str = ""
    bodies: tuple[Graph, ...] = ()

    def __str__(self) -> str:
        attrs = ",".join(f"{k}={v}" for k, v in self.attrs.items())
        shapes = "x".join("-" if a is None else str(list(a.shape)).replace(" ", "") for a in self.inputs)
        return self.label or f"{self.op}{shapes}{attrs}"

    # -- the node as a graph --------------------------------------------------------------------------------------

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple("" if a is None else f"i{k}" for k, a in enumerate(self.inputs))

    @cached_property
    def results(self) -> tuple[str, ...]:
        return tuple(f"o{k}" for k in range(self.outputs))

    @cached_property
    def node(self) -> Node:
        return Node(self.op, "node", self.names, self.results, dict(self.attrs), self.bodies)

    @cached_property
    def impl(self) -> Op:
        return get_op(self.node)

    def fed(self, index: int) -> bool:
        return index in self.live and self.inputs[index] is not None

    def site(self, inputs: tuple[Array | None, ...] | None = None) -> Site:
        arrays = self.inputs if inputs is None else inputs
        types = tuple(None if a is None else TensorType.of(a) for a in arrays)
        constants = tuple(None if self.fed(k) else a for k, a in enumerate(arrays))
        bare = Site(self.node, types, constants)
        return Site(self.node, types, constants, self.impl.infer(bare)[: self.outputs])

    def graph(
        self, stage: Stage = Stage.STEP, before: tuple[Node, ...] = (), extra: Mapping[str, Array] | None = None
    ) -> Graph:
        """The one-node graph; `before` are nodes that give i<k> from x<k>."""
        given = {o: n.inputs[0] for n in before for o in n.outputs}
        inputs = tuple(given.get(n, n) for k, n in enumerate(self.names) if self.fed(k))
        constants = {n: a for k, n in enumerate(self.names) if n and not self.fed(k) and (a := self.inputs[k]) is not None}
        constants.update(extra or {})
        types = {n: TensorType.of(a) for n, a in zip(self.names, self.inputs, strict=True) if a is not None}
        types.update({n: TensorType.of(a) for n, a in constants.items()})
        for node in before:
            axis = next(iter(self.time.values()))
            held = types[node.outputs[0]].shape
            types[node.inputs[0]] = types[node.outputs[0]].with_shape(
                tuple(n + 1 if d == axis % len(held) else n for d, n in enumerate(held))
            )
        site = self.site()
        types.update(dict(zip(self.results, (t for t in site.outputs if t is not None), strict=True)))
        return Graph(str(self), stage, inputs, self.results, (*before, self.node), types, constants)

    @cached_property
    def reference(self) -> tuple[Array, ...]:
        return self.run_reference(self.inputs)

    def run_reference(self, inputs: tuple[Array | None, ...]) -> tuple[Array, ...]:
        """float64 outputs of the op's own reference."""
        wide = tuple(a.astype(np.float64) if a is not None and a.dtype.kind == "f" else a for a in inputs)
        with np.errstate(all="ignore"):
            return self.impl.reference(self.site(inputs), *wide)[: self.outputs]

    @cached_property
    def engine(self) -> Engine:
        return Engine(verify(self.graph()))

    @cached_property
    def step_graph(self) -> Graph:
        axes = {self.names[k]: axis for k, axis in self.time.items()}
        return align(streamify(verify(self.graph(Stage.SEQUENCE)), axes))

    @cached_property
    def stream_engine(self) -> Engine:
        return Engine(self.step_graph)

    def frames(self, engine: Engine) -> dict[str, Array]:
        """The live inputs cut into steps: frames first for streams, repeated for inputs that stand still."""
        cut: dict[str, Array] = {}
        steps = self.steps(engine)
        for k, name in enumerate(self.names):
            if not self.fed(k):
                continue
            array = self.inputs[k]
            assert array is not None
            info = engine.inputs[name]
            if k in self.time:
                per = engine.frames
                moved = np.moveaxis(array, self.time[k], 0)[: steps * per]
                cut[name] = np.ascontiguousarray(moved).reshape(steps, *info.shape)
            else:
                cut[name] = np.broadcast_to(array.reshape(info.shape), (steps, *info.shape)).copy()
        return cut

    def steps(self, engine: Engine) -> int:
        k, axis = next(iter(self.time.items()))
        array = self.inputs[k]
        assert array is not None
        return int(array.shape[axis]) // engine.frames


def close(actual: Array, expected: Array, op: Op, what: str) -> None:
    """Within the op's own tolerance; exact for what is not a float."""
    assert actual.shape == expected.shape, what
    if actual.dtype.kind != "f":
        np.testing.assert_array_equal(actual, expected, err_msg=what)
        return
    np.testing.assert_allclose(actual, expected, rtol=op.tolerance.rtol, atol=op.tolerance.atol, err_msg=what)


def onnxruntime_outputs(case: Case) -> list[Array]:
    """What onnxruntime gives for the one-node model."""
    import onnx
    import onnxruntime as ort
    from onnx import helper as h

    def kind(array: Array) -> int:
        return int(h.np_dtype_to_tensor_dtype(array.dtype))

    fed = {n: a for n, a in zip(case.names, case.inputs, strict=True) if a is not None}
    types = case.site().outputs
    outputs = [
        h.make_tensor_value_info(n, h.np_dtype_to_tensor_dtype(t.dtype.numpy), t.shape)
        for n, t in zip(case.results, types, strict=True)
        if t is not None
    ]
    attrs = dict(case.attrs if case.onnx_attrs is None else case.onnx_attrs)
    node = h.make_node(case.op, case.names, case.results, domain=case.domain, **attrs)
    inputs = [h.make_tensor_value_info(n, kind(a), a.shape) for n, a in fed.items()]
    imports = [h.make_opsetid("", OPSET)] + ([h.make_opsetid(case.domain, 1)] if case.domain else [])
    model = h.make_model(h.make_graph([node], "g", inputs, outputs), opset_imports=imports, ir_version=10)
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, fed))


def as_dict(engine: Engine, result: Any) -> dict[str, Array]:
    return result if isinstance(result, dict) else {next(iter(engine.outputs)): result}


def tiled(frames: Array, n: int) -> Array:
    """`frames` over and over again, n of them."""
    return frames[np.arange(n) % len(frames)]


def chunks(n: int, seed: int) -> Iterator[slice]:
    rng, at = np.random.default_rng(seed), 0
    while at < n:
        size = int(rng.integers(1, 5))
        yield slice(at, min(n, at + size))
        at += size


class Contract:
    """Properties that every op keeps. Subclasses list `cases`; tests/conftest.py makes one test of each."""

    cases: ClassVar[list[Case]] = []

    def test_infer_gives_the_real_shapes_and_types(self, case: Case) -> None:
        for inferred, value in zip(case.site().outputs, case.reference, strict=True):
            assert inferred is not None
            assert inferred.shape == value.shape
            assert inferred.dtype.numpy.kind == value.dtype.kind

    def test_reference_agrees_with_onnxruntime(self, onnx_case: Case) -> None:
        for expected, value in zip(onnxruntime_outputs(onnx_case), onnx_case.reference, strict=True):
            close(expected, value, onnx_case.impl, "onnxruntime against the float64 reference")

    def test_compiled_step_agrees_with_the_reference(self, case: Case) -> None:
        engine = case.engine
        stream = Stream(engine)
        given = {n: a.reshape(engine.inputs[n].shape) for n, a in self._live(case).items()}
        found = as_dict(engine, stream.step(given))
        for name, expected in zip(case.results, case.reference, strict=True):
            close(found[name].reshape(expected.shape), expected, case.impl, f"{name}: compiled against reference")

    def test_plain_python_agrees_with_the_compiled_step(self, case: Case) -> None:
        engine = case.engine
        stream = Stream(engine)
        live = self._live(case)
        compiled = as_dict(engine, stream.step({n: a.reshape(engine.inputs[n].shape) for n, a in live.items()}))
        plain = Interpreter(engine.plan).step([live[port.name] for port in engine.plan.inputs])
        for name, value in zip(case.results, plain, strict=True):
            close(value.reshape(compiled[name].shape), compiled[name], case.impl, f"{name}: interpreted against compiled")

    def test_file_round_trip_keeps_the_step(self, case: Case, tmp_path: Any) -> None:
        save_graph(case.engine.graph, tmp_path / "m.srnn")
        again = Engine(load_graph(tmp_path / "m.srnn"))
        assert again.fingerprint == case.engine.fingerprint
        live = {n: a.reshape(again.inputs[n].shape) for n, a in self._live(case).items()}
        first, second = (as_dict(e, Stream(e).step(live)) for e in (case.engine, again))
        for name in case.results:
            np.testing.assert_array_equal(first[name], second[name])

    def test_what_needs_the_whole_clip_is_refused_with_the_reason(self, refused_case: Case) -> None:
        with pytest.raises(NotStreamableError, match=refused_case.refused):
            _ = refused_case.step_graph

    def test_n_steps_give_the_whole_clip(self, stream_case: Case) -> None:
        engine = stream_case.stream_engine
        found = as_dict(engine, Stream(engine).process(stream_case.frames(engine)))
        for name, expected in zip(stream_case.results, stream_case.reference, strict=True):
            self._check_prefix(stream_case, engine, name, found[name], expected)

    def test_chunking_is_not_observable(self, stream_case: Case) -> None:
        engine = stream_case.stream_engine
        frames = stream_case.frames(engine)
        whole = as_dict(engine, Stream(engine).process(frames))
        stream, pieces = Stream(engine), []
        for part in chunks(stream_case.steps(engine), seed=1):
            pieces.append(as_dict(engine, stream.process({n: a[part] for n, a in frames.items()})))
        single = Stream(engine)
        ones = [as_dict(engine, single.step({n: a[t] for n, a in frames.items()})) for t in range(stream_case.steps(engine))]
        for name in stream_case.results:
            np.testing.assert_array_equal(np.concatenate([p[name] for p in pieces]), whole[name])
            np.testing.assert_array_equal(np.stack([p[name] for p in ones]), whole[name])

    def test_a_block_gives_the_bits_of_single_steps(self, stream_case: Case) -> None:
        """Long enough for blocks in front of and behind single steps."""
        engine = stream_case.stream_engine
        frames = {n: tiled(a, 75) for n, a in stream_case.frames(engine).items()}
        block, single = Stream(engine), Stream(engine)
        found = as_dict(engine, block.process(frames))
        ones = [as_dict(engine, single.step({n: a[t] for n, a in frames.items()})) for t in range(75)]
        for name in stream_case.results:
            assert found[name].tobytes() == np.stack([p[name] for p in ones]).tobytes(), name
        assert block.snapshot() == single.snapshot()

    def test_any_step_can_be_a_block_in_plain_python(self, stream_case: Case) -> None:
        """Three steps at once, also where that would not pay: the same bits in outputs, held inputs and states."""
        plan = stream_case.stream_engine.plan
        form = Form(plan).over(3)
        step, block = Interpreter(plan), Interpreter(form.plan)
        frames = {n: tiled(a, form.after + 3) for n, a in stream_case.frames(stream_case.stream_engine).items()}
        calls = [[frames[port.name][t] for port in plan.inputs] for t in range(form.after + 3)]
        for call in calls[: form.after]:
            step.step(call)
        block.arena[: plan.state_bytes] = step.arena[: plan.state_bytes]
        ones = [step.step(call) for call in calls[form.after :]]
        rows = [np.stack(values) for values in zip(*calls[form.after :], strict=True)]
        for found, values in zip(block.step(rows), zip(*ones, strict=True), strict=True):
            assert found.tobytes() == np.stack(values).tobytes()
        assert block.arena[: plan.state_bytes].tobytes() == step.arena[: plan.state_bytes].tobytes()

    def test_filler_before_the_first_frame_never_leaks(self, warm_case: Case) -> None:
        k, axis = next(iter(warm_case.time.items()))
        rank = warm_case.inputs[k].ndim  # type: ignore[union-attr]
        one, end, where = np.array([1]), np.array([np.iinfo(np.int64).max]), np.array([axis % rank])
        cut = Node("Slice", "cut", ("x", "s", "e", "a"), (warm_case.names[k],))
        graph = verify(warm_case.graph(Stage.SEQUENCE, (cut,), {"s": one, "e": end, "a": where}))
        engine = Engine(align(streamify(graph, {"x": axis})))
        frames = warm_case.frames(warm_case.stream_engine)
        clip = frames[warm_case.names[k]].reshape(-1, *frames[warm_case.names[k]].shape[2 if engine.frames > 1 else 1 :])
        pad = np.full((engine.frames, *clip.shape[1:]), np.nan, clip.dtype)
        # the slice drops one frame, so everything is one frame later: the first frame is filler
        late = np.concatenate([pad[:1], clip])[: len(clip) // engine.frames * engine.frames]
        rest = {n: a for n, a in frames.items() if n != warm_case.names[k]}
        shape = engine.inputs["x"].shape
        found = as_dict(engine, Stream(engine).process({"x": late.reshape(-1, *shape), **rest}))
        for name in warm_case.results:
            assert np.isfinite(found[name]).all(), name

    def test_reset_is_a_new_stream(self, stream_case: Case) -> None:
        engine = stream_case.stream_engine
        frames = stream_case.frames(engine)
        stream = Stream(engine)
        first = as_dict(engine, stream.process(frames))
        stream.reset()
        second = as_dict(engine, stream.process(frames))
        for name in stream_case.results:
            np.testing.assert_array_equal(first[name], second[name])

    def test_snapshot_and_restore_are_uninterrupted(self, stream_case: Case) -> None:
        engine = stream_case.stream_engine
        frames = stream_case.frames(engine)
        half = stream_case.steps(engine) // 2
        whole = as_dict(engine, Stream(engine).process(frames))
        stream = Stream(engine)
        stream.process({n: a[:half] for n, a in frames.items()})
        snapshot = stream.snapshot()
        other = Stream(engine)
        other.process({n: a[:1] for n, a in frames.items()})
        other.restore(type(snapshot).from_bytes(snapshot.to_bytes()))
        rest = as_dict(engine, other.process({n: a[half:] for n, a in frames.items()}))
        for name in stream_case.results:
            np.testing.assert_array_equal(rest[name], whole[name][half:])

    def test_n_streams_are_n_single_ones(self, stream_case: Case) -> None:
        """Slots that begin one after the other, with holes between them, where the model has lanes and where it has not."""
        engine = stream_case.stream_engine
        frames, steps = stream_case.frames(engine), stream_case.steps(engine)
        for pool in (StreamPool(engine, 18), StreamPool(engine, 3, lanes=False)):
            slots = [pool.join() for _ in range(pool.slots)]
            late = {slot: k % 3 for k, slot in enumerate(slots)}
            for slot in slots[1:-1:5]:
                pool.leave(slot)
                del late[slot]
            single = as_dict(engine, Stream(engine).process(frames))
            for t in range(steps):
                # slot k is late[k] steps behind; before it begins it is reset, so that what it saw does not count
                rows = {n: np.stack([a[max(0, t - late.get(k, 0))] for k in slots]) for n, a in frames.items()}
                found = as_dict(engine, pool.step(rows))
                for k, behind in late.items():
                    if t < behind:
                        pool.reset(k)
                        continue
                    for name in stream_case.results:
                        np.testing.assert_array_equal(found[name][k], single[name][t - behind])

    # -- pieces ---------------------------------------------------------------------------------------------------

    def _live(self, case: Case) -> dict[str, Array]:
        return {n: a for k, n in enumerate(case.names) if case.fed(k) and (a := case.inputs[k]) is not None}

    def _check_prefix(self, case: Case, engine: Engine, name: str, found: Array, expected: Array) -> None:
        """Frame j of the clip leaves the stream `delay` frames later; one answer for the clip is that of every prefix."""
        port = next(p for p in engine.plan.outputs if p.name == name)
        stream = port.stream
        assert stream is not None
        per = engine.frames // stream.stride
        if stream.axis is None:
            self._check_answers(case, engine, name, found, stream.delay)
            return
        clip = np.moveaxis(expected, stream.axis, 0)
        got = found.reshape(len(found) * per, *clip.shape[1:])
        assert not got[: stream.delay].any(), "filler must be zero"
        valid = got[stream.delay :][: len(clip)]
        assert len(valid)
        close(valid, clip[: len(valid)], case.impl, f"{name}: stream against whole clip")

    def _check_answers(self, case: Case, engine: Engine, name: str, found: Array, delay: int) -> None:
        for step in range(len(found)):
            frames = (step + 1) * engine.frames - delay
            if frames <= 0:
                assert not found[step].any()
                continue
            prefix = tuple(
                np.take(a, range(frames), case.time[k]) if k in case.time and a is not None else a
                for k, a in enumerate(case.inputs)
            )
            expected = case.run_reference(prefix)[case.results.index(name)]
            close(found[step].reshape(expected.shape), expected, case.impl, f"{name}: answer after {frames} frames")


def floats(seed: int, *shape: int, scale: float = 1.0) -> Array:
    """float32 noise of a given shape, the same at every run."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def fixture_cases(cases: list[Case], fixture: str) -> list[Case]:
    """Which cases a test of `Contract` runs on, by the name of its argument."""
    streams = [c for c in cases if c.time and not c.refused]
    return {
        "case": cases,
        "onnx_case": [c for c in cases if c.onnx],
        "stream_case": streams,
        "warm_case": [
            c for c in streams if len(c.time) == 1 and (a := c.inputs[next(iter(c.time))]) is not None and a.dtype.kind == "f"
        ],
        "refused_case": [c for c in cases if c.refused],
    }[fixture]
