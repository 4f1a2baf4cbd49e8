"""The passes of an import. Each takes a Graph and gives a new one, verified."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from streamrnn.ir.graph import Array, Graph
from streamrnn_converters.onnx.raw import RawModel
from streamrnn_converters.passes import (
    absorb,
    align,
    carry,
    cells,
    declutter,
    finite,
    fold,
    fuse,
    integers,
    narrow,
    reroll,
    split,
    streamify,
)
from streamrnn_converters.state_kind import with_state_kinds

#: fold reads the file; the others rewrite graphs, in this order (window mode has no time to remove)
PIPELINE: Mapping[str, Callable[..., Graph]] = {
    "fold": fold.fold,
    "finite": finite.check_finite,
    "declutter": declutter.declutter,
    "integers": integers.integers,
    "reroll": reroll.reroll,
    "cells": cells.recognise_cells,
    "carry": carry.carry,
    "split": split.split_directions,
    "streamify": streamify.streamify,
    "align": align.align,
    "absorb": absorb.absorb,
    "fuse": fuse.fuse,
    "narrow": narrow.narrow,
}


class Pipeline:
    """Runs passes by name and shows each result to `dump`."""

    def __init__(self, dump: Callable[[str, Graph], None] | None = None) -> None:
        self.dump = dump or (lambda name, graph: None)

    def run(self, name: str, *args: object) -> Graph:
        graph = PIPELINE[name](*args)
        self.dump(name, graph)
        return graph

    def fold(
        self, model: RawModel, shapes: Mapping[str, tuple[int, ...]], bind: Mapping[str, Array], outputs: Sequence[str] | None
    ) -> Graph:
        """The typed sequence graph of a file; its weights are looked at as well."""
        return self.run("finite", self.run("fold", model, shapes, bind, outputs))

    def streamify(self, graph: Graph, axes: Mapping[str, int], chunk: int) -> Graph:
        """streamify, align, the kinds of states, `merge`; with chunks of several frames, directions are split first."""
        if chunk > 1:
            graph = self.run("split", graph)
        return self.merge(with_state_kinds(self.run("align", self.run("streamify", graph, axes, chunk))))

    def merge(self, graph: Graph) -> Graph:
        """A step graph whose nodes do as much at once as they can."""
        return self.run("fuse", self.run("absorb", graph))
