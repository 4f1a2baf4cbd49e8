"""From a file to a validated-to-be step graph: reading, folding, the state map, the mode, the passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from streamrnn.errors import BindingError, NotStreamableError, ShapeError, StreamRNNError
from streamrnn.ir.file import fingerprint
from streamrnn.ir.graph import Graph, Stage
from streamrnn.ir.verify import verify
from streamrnn_converters.audio import is_audio
from streamrnn_converters.audio.importer import convert_audio
from streamrnn_converters.lint.batch import check_batch
from streamrnn_converters.lint.file import file_findings
from streamrnn_converters.lint.model import model_findings
from streamrnn_converters.lint.repair import chosen, repaired_file
from streamrnn_converters.lint.rules import RULES, Finding, findings_of, findings_row
from streamrnn_converters.onnx.raw import RawModel
from streamrnn_converters.onnx.reader import read_bytes, read_model
from streamrnn_converters.onnx.state_map import Pair, attach_states, find_pairs
from streamrnn_converters.options import Mode, Options
from streamrnn_converters.passes import Pipeline
from streamrnn_converters.shapes import default_shapes, is_open, length_inputs, time_candidates
from streamrnn_converters.state_kind import with_state_kinds

#: clip lengths at which a file with an open time axis is folded; the step graph must not depend on which. The second pair is
#: for files that take whole groups of frames alone
CLIP_LENGTHS = ((1009, 1013), (7 * 7680, 11 * 7680))


def convert(
    path: str | Path,
    *,
    mode: Mode = "auto",
    bind: Mapping[str, object] | None = None,
    shape: Mapping[str, Sequence[int]] | None = None,
    pair: Mapping[str, str] | None = None,
    time_axis: Mapping[str, int] | None = None,
    lookahead: int = 0,
    outputs: Sequence[str] | None = None,
    fix: Sequence[str] = (),
    layers: str = "",
    prewarm: bool = False,
    weights: str = "f32",
    dump: Callable[[str, Graph], None] | None = None,
) -> Graph:
    """The step graph of a model file: ONNX, or one of the audio formats (NAM, AIDA-X, GuitarML, RTNeural), which take `layers`,
    `prewarm`, `weights` and `dump` alone.

    mode:      "frame": one step is one frame of the time axis. "window": one step is one call of the file. "auto": frame
               where every op allows it, else window; the reason is kept in meta["mode_reason"].
    bind:      {input: value}: an input that becomes a constant.
    shape:     {input: dimensions}: fixes open dimensions.
    pair:      {state input: output} or {state input: "output[0:1]"}; "" says that an input is no state.
    time_axis: {input: axis} of time in frame mode; found where the file leaves one possibility.
    lookahead: frames per chunk for a bidirectional model in frame mode: the backward pass restarts at each chunk's end.
    outputs:   import these outputs of the file alone (state outputs included); what only the others need is left out.
    fix:       codes of lint's findings that are to be repaired, or "all"; see `lint.rules`.
    layers:    how the modules of a PyTorch state_dict in JSON are connected: "gru,dense".
    prewarm:   start an audio model from the state after the silence that the format's player feeds before the first sound.
    weights:   how weights are stored: "f32"; "f16"; "int8", with a scale for each output channel; or "auto", for each layer the
               narrowest that keeps its error small, see `passes.narrow`.
    dump:      called with the name of each stage and its graph.

    Raises ModelFileError, UnsupportedError, BindingError, StatePairError, ShapeError, and NotStreamableError where frame
    mode was asked for and a node needs the whole clip.
    """
    path = Path(path)
    if is_audio(path):
        foreign = {
            "bind": bind,
            "shape": shape,
            "pair": pair,
            "time_axis": time_axis,
            "lookahead": lookahead,
            "outputs": outputs,
            "fix": fix,
        }
        return _audio_graph(path, mode, foreign, Options(layers=layers, prewarm=prewarm, weights=weights), dump)
    if layers or prewarm:
        name = "--layers" if layers else "--prewarm"
        raise BindingError(
            f"{path}: {name} belongs to audio formats; an ONNX file says how it is connected and where it starts"
        )
    options = Options(mode, bind or {}, shape or {}, pair or {}, time_axis or {}, lookahead, outputs, fix, weights=weights)
    model, fixes = read_model(path), []
    if fix:
        fixes = chosen(findings(model, options)[0], fix)
        check_batch(path, fixes, options.bind)
        model = read_bytes(repaired_file(path, fixes), path)
    graph = convert_model(model, options, dump)
    done = [findings_row(replace(found, remedy=RULES[found.code].fix)) for found in fixes]
    return graph.replace(meta={**graph.meta, "fixes": done}) if done else graph


def _audio_graph(
    path: Path, mode: Mode, foreign: Mapping[str, object], options: Options, dump: Callable[[str, Graph], None] | None
) -> Graph:
    """The step graph of an audio file. `foreign`: what was given for the options that it does not take."""
    if mode == "window":
        raise BindingError(f"{path}: --mode window belongs to ONNX files: one step of an audio model is one sample")
    graph = convert_audio(path, foreign, layers=options.layers, prewarm=options.prewarm, dump=dump)
    graph = Pipeline(dump).run("narrow", graph, options.weights)
    return graph.replace(meta={**graph.meta, "source": path.name, "given": options.words()})


def convert_model(model: RawModel, options: Options, dump: Callable[[str, Graph], None] | None = None) -> Graph:
    """The step graph of a model that was read already. See `convert`."""
    pipeline = Pipeline(dump)
    return pipeline.run("narrow", _Import(model, options, pipeline).run(), options.weights)


def findings(model: RawModel, options: Options) -> tuple[list[Finding], StreamRNNError | None]:
    """What lint finds in a file without repairs, and what speaks against its conversion; then only the file is looked at."""
    try:
        return findings_of(convert_model(model, replace(options, fix=())).meta), None
    except StreamRNNError as error:
        return file_findings(model), error


class _Import:
    def __init__(self, model: RawModel, options: Options, pipeline: Pipeline) -> None:
        self.model = model
        self.options = options
        self.pipeline = pipeline
        self.bind = {name: np.asarray(value) for name, value in options.bind.items()}
        self.lengths = {name: dims for name, dims in length_inputs(model).items() if name not in self.bind}

    def run(self) -> Graph:
        graph = self._converted()
        found = [*file_findings(self.model), *findings_of(graph.meta)]
        return graph.replace(meta={**graph.meta, "lint": list(map(findings_row, found))})

    def _converted(self) -> Graph:
        if self.options.mode == "window":
            return self.window("asked for")
        if self.options.mode == "auto" and not self._has_open_time() and self._is_step_model():
            return self.window("the file carries its state itself: one step is one call")
        try:
            graph = self.frame()
            reason = "" if self.options.mode == "frame" else self._without_counterpart(graph)
            if not reason:
                return graph
        except (NotStreamableError, BindingError) as error:
            if self.options.mode == "frame" or self.options.time_axis:
                raise
            reason = str(error)
        try:
            return self.window(reason)
        except BindingError as error:
            if str(error) in reason:
                raise
            raise BindingError(f"{error}\n(frame mode is not possible: {reason})") from None

    def _without_counterpart(self, graph: Graph) -> str:
        """Why the stream is not what a file with clips of a fixed length means, "" where it is."""
        if self._has_open_time() or self.options.lookahead or self.options.time_axis:
            return ""
        unrolled = [found for found in findings_of(graph.meta) if (found.code, found.level) == ("SR103", "warning")]
        if unrolled:
            return (
                f"{unrolled[0].where}: the file writes a recurrence out, along another axis than one that can be streamed; "
                f"--time-axis streams along that one"
            )
        late = [n for n in graph.outputs if (s := graph.streams.get(n)) is not None and s.axis is None and s.delay]
        if not late:
            return ""
        ahead = graph.streams[late[0]].delay
        return (
            f"'{late[0]}' is one answer for a clip of fixed length and looks {ahead} frames ahead, where the file pads and a "
            f"stream waits; --mode frame gives the answer that lags"
        )

    def _has_open_time(self) -> bool:
        axes = time_candidates(self.model, [*self.bind, *self.lengths], self.options.shape)
        dims = {i.name: self.options.shape.get(i.name, i.dims) for i in self.model.inputs}
        return bool(self.options.time_axis) or any(is_open(dims[n][a]) for c in axes for n, a in c.items())

    def _is_step_model(self) -> bool:
        _, pairs = self._sequence({}, 1)
        return bool(pairs)

    def _sequence(self, axes: Mapping[str, int], frames: int, *, roll: bool = True) -> tuple[Graph, list[Pair]]:
        """The typed sequence graph with its explicit states, at one clip length; without `axes`, of one call of the file.
        roll: whether recurrences that are written out over a clip become loops."""
        shapes = default_shapes(self.model, list(self.bind), self.options.shape, axes, frames)
        clip = {shapes[name][axis] for name, axis in axes.items() if name in shapes}
        lengths = {name: np.full(dims, max(clip), np.int64) for name, dims in self.lengths.items() if clip}
        graph = self.pipeline.fold(self.model, shapes, {**self.bind, **lengths}, self.options.outputs)
        pairs = find_pairs(graph, self.options.pair, self._data(graph, axes))
        graph = self.pipeline.run("integers", self.pipeline.run("declutter", attach_states(graph, pairs)))
        if axes and roll:
            graph = self.pipeline.run("reroll", graph)
        graph = self.pipeline.run("cells", graph, max(1, self.options.lookahead) if axes else 0)
        graph = self.pipeline.run("carry", graph)
        meta = {
            "shapes": {name: list(graph.types[name].shape) for name in (*graph.inputs, *(s.read for s in graph.states))},
            "bind": {name: value.tolist() for name, value in self.bind.items()},
            "as_long_as_the_clip": list(lengths),
            "pairs": [[p.source, p.target_text, p.evidence] for p in pairs],
            "source": self.model.path.name,
            "given": self.options.words(),
            "producer": self.model.producer,
            "opset": self.model.opset,
            "lookahead": self.options.lookahead,
            **_numbers(self.model.metadata),
        }
        return graph.replace(meta={**graph.meta, **meta}), pairs

    def _data(self, graph: Graph, axes: Mapping[str, int]) -> list[str]:
        """Inputs with a time axis, and outputs as long as the clip."""
        axes = {name: axis for name, axis in axes.items() if name in graph.inputs}
        lengths = {graph.types[name].shape[axis] for name, axis in axes.items()}
        long = [n for n in graph.outputs if axes and lengths & set(graph.types[n].shape)]
        return [*axes, *long]

    def window(self, reason: str) -> Graph:
        """One step is one call of the file."""
        if self.options.time_axis:
            raise BindingError(f"--time-axis belongs to frame mode, which is not possible: {reason}")
        graph, pairs = self._sequence({}, 1)
        meta = {
            "mode": "window",
            "mode_reason": reason,
            "frames": 1,
            "receptive_field": None,
            "found": self.options.found(self.model, graph, pairs, "window", {}),
            "lint": list(map(findings_row, model_findings(self.model, graph, graph, pairs, {}, reason))),
        }
        graph = with_state_kinds(graph).replace(stage=Stage.STEP, meta={**graph.meta, **meta})
        return self.pipeline.merge(verify(graph))

    def frame(self) -> Graph:
        """One step is one frame (or `lookahead` frames) of the time axis."""
        if self.options.time_axis:
            return self._framed(dict(self.options.time_axis))
        reasons: list[str] = []
        good: list[tuple[dict[str, int], Graph]] = []
        for axes in time_candidates(self.model, [*self.bind, *self.lengths], self.options.shape):
            try:
                graph = self._framed(axes)
            except (NotStreamableError, BindingError) as error:
                where = ", ".join(f"axis {axis} of '{name}'" for name, axis in axes.items())
                reasons.append(f"time along {where}: {error}")
                continue
            if any(state.kind != "generator" for state in graph.states):  # time is the axis along which a model remembers
                good.append((axes, graph))
        if len(good) == 1:
            return good[0][1]
        if good:
            choices = " or ".join(f"--time-axis {n}={a}" for axes, _ in good for n, a in axes.items())
            raise NotStreamableError(f"time may run along several axes; say which: {choices}")
        raise NotStreamableError("\n".join(reasons) or "no axis of the inputs is one along which the model remembers")

    def _framed(self, axes: dict[str, int]) -> Graph:
        dims = {i.name: dict(enumerate(i.dims)) for i in self.model.inputs}
        open_time = any(is_open(dims.get(n, {}).get(a % max(1, len(dims.get(n, {}))), 0)) for n, a in axes.items())
        if not open_time:
            return self._step(axes, 1)
        try:
            return self._same_step(axes, *CLIP_LENGTHS[0])
        except ShapeError as error:
            try:
                return self._same_step(axes, *CLIP_LENGTHS[1])
            except ShapeError:
                raise NotStreamableError(
                    f"{error}: no clip of {CLIP_LENGTHS[0][0]} frames fits the model; use window mode (--mode window)"
                ) from None

    def _same_step(self, axes: dict[str, int], one: int, other: int) -> Graph:
        """The step graph that clips of both lengths give."""
        first, second = self._step(axes, one), self._step(axes, other)
        if fingerprint(second) != fingerprint(first):
            raise NotStreamableError(
                f"model '{first.name}': what a step computes depends on the length of the clip; use window mode (--mode window)"
            )
        return first

    def _step(self, axes: dict[str, int], frames: int) -> Graph:
        graph, pairs = self._sequence(axes, frames)
        try:
            return self._streamed(graph, pairs, axes)
        except NotStreamableError:
            if "rerolled" not in graph.meta:
                raise
        # what is written out may run along another axis than time, with memory of time inside, which a loop cannot have
        return self._streamed(*self._sequence(axes, frames, roll=False), axes)

    def _streamed(self, graph: Graph, pairs: Sequence[Pair], axes: dict[str, int]) -> Graph:
        for pair in pairs:
            if not pair.of_cell:
                raise NotStreamableError(
                    f"state '{pair.source}' is not the state of a recurrent op over time: the file writes it once a call, and "
                    f"a frame is no call; use window mode (--mode window)"
                )
        axes = {name: axis % graph.types[name].rank for name, axis in axes.items() if name in graph.inputs}
        if not axes:
            raise NotStreamableError("no output needs the inputs along which time is said to run")
        step = self.pipeline.streamify(graph, axes, max(1, self.options.lookahead))
        meta = {
            "mode": "frame",
            "mode_reason": "every op can run one frame at a time",
            "time_axes": axes,
            "found": self.options.found(self.model, graph, pairs, "frame", axes),
            "lint": list(map(findings_row, model_findings(self.model, graph, step, pairs, axes))),
        }
        return step.replace(meta={**step.meta, **meta})


def _numbers(metadata: Mapping[str, str]) -> dict[str, object]:
    """The file's own metadata; whole numbers (sample_rate) as numbers."""
    return {f"{k}": int(v) if v.isascii() and v.isdigit() and len(v) < 16 else v for k, v in metadata.items()}
