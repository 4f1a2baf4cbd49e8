"""How close the estimate of `streamrnn fit --target host` comes to the measured step, in native code.

    python benchmarks/bench_fit.py [FOLDER] [-o PAGE]

The cells of the suite (LSTM, GRU, RNN by size and kind of weights) by step and by block, and in FOLDER the models of a
manifest.json in window mode. Printed are the step, the estimate and their ratio, and how the ratios are spread; PAGE gets the
same as Markdown. Times are the medians of the suite's rounds.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil
from pathlib import Path

import numpy as np
from model_folder import Folder, arguments
from suite.cells import CELLS, CellCase, noise
from suite.native import in_kernel
from suite.own import engine as cell_engine
from suite.parts.cells import HIDDEN, WEIGHTS
from suite.timing import abba, medians

from streamrnn import Engine, Stream
from streamrnn.export.boards import Board
from streamrnn.export.estimate import MEASURED, load_of
from streamrnn.export.roofline import host_board
from streamrnn.export.workload import Workload
from streamrnn.ir.graph import Array

#: seconds of measuring for one case, and nanoseconds of steps in one call of native code
BUDGET, CALL = 0.2, 1e6


@dataclass(frozen=True)
class Row:
    """One case: nanoseconds of a step."""

    name: str
    measured: float
    estimate: float

    @property
    def ratio(self) -> float:
        return self.estimate / self.measured

    @property
    def close(self) -> bool:
        return 1 / MEASURED <= self.ratio <= MEASURED


def cells() -> Iterator[tuple[str, Engine, list[Array]]]:
    """Name, engine and frame of each cell of the suite."""
    with tempfile.TemporaryDirectory() as folder:
        for cell, weights, H in product(CELLS, WEIGHTS, HIDDEN):
            yield f"{cell} {H} {weights}", cell_engine(CellCase(cell, H, Path(folder)), weights), [noise((H,))]


def models(path: Path) -> Iterator[tuple[str, Engine, list[Array]]]:
    """The same of a folder of models."""
    folder = Folder(path)
    for name in folder.entries:
        engine = Engine(folder.window(name))
        given = arguments(engine, folder.feed(name)(0))
        yield name, engine, [np.ascontiguousarray(given[key]) for key in engine.inputs]


def compare(name: str, engine: Engine, frame: Sequence[Array], board: Board) -> Row:
    estimate = load_of(Workload(engine.plan, engine.plan.step_bytes), board).nanoseconds
    steps = ceil(CALL / estimate)
    [measured] = medians(abba([(in_kernel(engine.plan, engine.step, frame), steps)], BUDGET))
    return Row(name, measured / steps, estimate)


def compare_block(name: str, engine: Engine, frame: Sequence[Array], board: Board) -> Row | None:
    """The same per step of a block, made by `process`; None where the model has no blocks."""
    block = engine.plan.block
    if block is None:
        return None
    [port] = engine.inputs.values()
    frames = np.stack([frame[0].reshape(port.shape)] * block.steps)
    stream = Stream(engine)
    stream.process(frames)  # from the second block on no delay has filler left
    [measured] = medians(abba([(stream.process, frames)], BUDGET))
    estimate = load_of(Workload(block.plan, engine.plan.arena_bytes), board).nanoseconds
    return Row(f"{name}, block of {block.steps}", measured / block.steps, estimate / block.steps)


def spread(what: str, rows: Sequence[Row]) -> str:
    """One line about the ratios of some rows."""
    ratios = np.array([row.ratio for row in rows])
    low, middle, high = np.percentile(ratios, [5, 50, 95])
    close = sum(row.close for row in rows)
    outside = ", ".join(f"{row.name} ({row.ratio:.2f})" for row in rows if not row.close) or "none"
    return (
        f"{what}: {close} of {len(rows)} within a factor of {MEASURED:g}; estimate / measured {ratios.min():.2f} to "
        f"{ratios.max():.2f}, median {middle:.2f}, 90 % from {low:.2f} to {high:.2f}; outside: {outside}"
    )


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    board = host_board()
    title = "# The estimate of `streamrnn fit` beside the measured step"
    lines = [f"{title}\n\n{board.what}; steps in native code, blocks by way of `process`.\n"]
    table = ["| case | step, us | estimate, us | estimate / step |", "|---|---|---|---|"]
    real = models(args.folder) if args.folder else iter(())
    for what, cases, way in (("cells", cells(), compare), ("blocks", cells(), compare_block), ("models", real, compare)):
        rows = []
        for case in cases:
            row = way(*case, board)
            if row is not None:
                rows.append(row)
                table.append(f"| {row.name} | {row.measured / 1e3:.3g} | {row.estimate / 1e3:.3g} | {row.ratio:.2f} |")
                print(table[-1], flush=True)
        if rows:
            lines.append(f"- {spread(what, rows)}")
            print(lines[-1], flush=True)
    if args.output:
        args.output.write_text("\n".join([*lines, "", *table]) + "\n")


if __name__ == "__main__":
    main()
