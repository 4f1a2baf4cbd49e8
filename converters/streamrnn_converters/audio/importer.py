"""A file of one of the audio formats as a step graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from streamrnn import Engine, Stream
from streamrnn.errors import BindingError
from streamrnn.ir.graph import Graph
from streamrnn_converters.audio import read_audio
from streamrnn_converters.audio._build import step_graph
from streamrnn_converters.passes import Pipeline

#: options of an import that these formats leave nothing to decide for -> why
_FOREIGN: Mapping[str, str] = {
    "bind": "the inputs of an audio model are its signal and its knobs; hold a knob while it runs: run --set NAME=VALUE",
    "shape": "the file says every size",
    "pair": "the file says what its state is",
    "time_axis": "time is the samples' own",
    "lookahead": "these models look back alone",
    "outputs": "there is one output",
    "fix": "the file holds weights and nothing that an exporter could have lost",
}


def convert_audio(
    path: Path,
    foreign: Mapping[str, object],
    *,
    layers: str = "",
    prewarm: bool = False,
    dump: Callable[[str, Graph], None] | None = None,
) -> Graph:
    """The step graph of an audio model file: one step is one sample.

    foreign: options that belong to ONNX files, refused where they are set.
    layers:  the topology of a PyTorch state_dict.
    prewarm: start from the state after the silence that the format's own player feeds before the first sound.

    Raises ModelFileError, BindingError.
    """
    for name, value in foreign.items():
        if value:
            raise BindingError(f"{path}: --{name.replace('_', '-')} belongs to ONNX files: {_FOREIGN[name]}")
    model = read_audio(path, layers)
    if prewarm and not model.prewarm:
        raise BindingError(f"{path}: --prewarm: the player of this format ({model.format}) feeds no silence before the sound")
    graph = step_graph(model, Pipeline(dump))
    return prewarmed(graph, model.prewarm) if prewarm else graph


def prewarmed(graph: Graph, frames: int) -> Graph:
    """The graph whose states begin as they are after `frames` frames of zeros."""
    engine = Engine(graph)
    stream = Stream(engine)
    block = {name: np.zeros((1024, *port.shape), port.dtype) for name, port in engine.inputs.items()}
    for start in range(0, frames, 1024):
        stream.process({name: zeros[: frames - start] for name, zeros in block.items()})
    held = stream.state()
    states = tuple(replace(state, init=held[state.name]) for state in graph.states)
    return graph.replace(states=states, meta={**graph.meta, "prewarmed": frames})
