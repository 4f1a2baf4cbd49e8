"""A recurrent model at a sample rate higher than the one it was trained at.

A recurrence h[n] = f(x[n], h[n - 1]) has the trained sample period inside: at M times the rate, the state of one trained period
ago is that of M samples ago. So the state is kept for as many samples as that takes and read between them:

    h[n - M] ~ l_0 h[n - b] + l_1 h[n - b - 1] + l_2 h[n - b - 2] + l_3 h[n - b - 3]

with the weights of the cubic Lagrange interpolator, b = 1 or what puts M between the middle two, and one weight of 1 where M is
whole. Source: Carson, Wright, Chowdhury, Välimäki, Bilbao, "Sample rate independent recurrent neural networks for audio
effects processing", DAFx 2024.

A recurrence that is stable at its own rate need not be so behind an interpolator. As in Carson, Wright, Bilbao, "Interpolation
filter design for sample rate independent audio effect RNNs", ICASSP 2025, the model is linearised around what it settles to in
silence: each eigenvalue e of the trained recurrence turns into the roots of z^b = e (l_0 + l_1 / z + l_2 / z^2 + l_3 / z^3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.evaluate import evaluate_all
from streamrnn.ir.graph import Array, Graph, Node, State
from streamrnn.ir.types import TensorType
from streamrnn.ir.verify import infer_node, site_of, verify

#: highest rate, in trained rates
HIGHEST = 16.0
_RECURRENT = ("LSTM", "GRU", "RNN")
#: frames of silence that a model gets to settle, and what it may still move by then
_SETTLE, _STILL = 20_000, 1e-6
_STEP = 1e-6
#: |root| up to which a linearised recurrence counts as stable
_MARGIN = 1.0 + 1e-6


def interpolation(factor: float) -> tuple[int, tuple[float, ...]]:
    """(b, weights): a value `factor` >= 1 samples ago as a sum over the values b, b + 1 ... samples ago."""
    if float(factor).is_integer():
        return int(factor), (1.0,)
    first = max(1, math.floor(factor) - 1)
    at = factor - first
    return first, tuple(math.prod((at - j) / (k - j) for j in range(4) if j != k) for k in range(4))


def at_rate(graph: Graph, factor: float, held: Mapping[str, float] | None = None) -> Graph:
    """The step graph of a recurrent model at `factor` times the sample rate it was trained at.

    held: values of inputs (knobs) at which its stability is looked at; the others are zero.

    Every state becomes a line of past states, [samples, elements], the newest first. Raises UnsupportedError where a state is
    no recurrent op's (a convolution's past is spaced in samples too), where the rate is not higher than the trained one, and
    where the result would not be stable.
    """
    if not 1.0 <= factor <= HIGHEST:
        raise UnsupportedError(
            f"model '{graph.name}': {factor:g} times the trained sample rate; its state can be delayed at 1 to {HIGHEST:g} "
            f"times, resample the signal instead"
        )
    for state in graph.states:
        if not _is_recurrent(graph, state):
            raise UnsupportedError(
                f"model '{graph.name}': state '{state.name}' ({state.kind}) is not that of a recurrent layer, and the past of "
                f"a convolution cannot be stretched; resample the signal instead"
            )
    if factor == 1.0 or not graph.states:
        return graph
    pole = largest_pole(graph, factor, held)
    if pole > _MARGIN:
        raise UnsupportedError(
            f"model '{graph.name}': at {factor:g} times the trained rate its recurrence would not be stable (largest pole "
            f"{pole:.4f} around silence); resample the signal, or run it at a whole multiple of the trained rate"
        )
    return _stretched(graph, factor)


def _is_recurrent(graph: Graph, state: State) -> bool:
    readers = [node for node in graph.nodes if state.read in node.inputs]
    return bool(readers) and all(node.op in _RECURRENT and state.write in node.outputs for node in readers)


def _stretched(graph: Graph, factor: float) -> Graph:
    first, weights = interpolation(factor)
    kept = first + len(weights) - 1
    coefficients = np.zeros((1, kept), np.float32)
    coefficients[0, first - 1 :] = weights
    work = _Work(graph)
    weight = work.constant("rate.weights", coefficients)
    states = []
    for state in graph.states:
        size = int(state.init.size)
        line, name = np.tile(state.init.reshape(1, size), (kept, 1)), f"{state.name}.line"
        read, write = f"{name}.read", f"{name}.write"
        work.types[read] = TensorType.of(line)
        if len(weights) == 1:
            ends = [work.constant(f"{name}.{key}", np.array([k])) for key, k in (("from", kept - 1), ("to", kept), ("axis", 0))]
            past = work.node("Slice", f"{name}.past", (read, *ends))
        else:
            past = work.node("MatMul", f"{name}.past", (weight, read))
        shape = work.constant(f"{name}.shape", np.array(state.init.shape))
        work.node("Reshape", f"{name}.delayed", (past, shape), state.read)
        states.append((State(state.name, read, write, line, state.kind, state.evidence), state.write, size))
    work.nodes += graph.nodes
    for state, newest, size in states:
        flat = work.constant(f"{state.write}.shape", np.array([1, size]))
        row = work.node("Reshape", f"{state.write}.row", (newest, flat))
        if kept == 1:
            work.node("Identity", f"{state.write}.push", (row,), state.write)
            continue
        ends = [work.constant(f"{state.write}.{key}", np.array([k])) for key, k in (("from", 0), ("to", kept - 1), ("axis", 0))]
        older = work.node("Slice", f"{state.write}.older", (state.read, *ends))
        work.node("Concat", f"{state.write}.push", (row, older), state.write, axis=0)
    meta = {**graph.meta, "rate_correction": f"states read {factor:g} samples back, one sample of the trained rate"}
    trained = graph.meta.get("sample_rate")
    if isinstance(trained, int | float):
        rate = trained * factor
        meta |= {"trained_rate": trained, "sample_rate": round(rate) if abs(rate - round(rate)) < 1e-3 else rate}
    used = {name for node in work.nodes for name in node.inputs}
    return verify(
        graph.replace(
            nodes=tuple(work.nodes),
            types={name: t for name, t in work.types.items() if name in used or name not in work.constants},
            constants={name: array for name, array in work.constants.items() if name in used},
            states=tuple(state for state, _, _ in states),
            meta=meta,
        )
    )


class _Work:
    """Nodes, types and constants as they are added to those of a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.types = dict(graph.types)
        self.constants = dict(graph.constants)
        self.nodes: list[Node] = []

    def constant(self, name: str, array: Array) -> str:
        self.constants[name] = array
        self.types[name] = TensorType.of(array)
        return name

    def node(self, op: str, name: str, inputs: Sequence[str], output: str = "", **attrs: int) -> str:
        output = output or f"{name}.out"
        node = Node(op, name, tuple(inputs), (output,), attrs)
        infer_node(self.types, site_of(self.graph.replace(types=self.types, constants=self.constants), node))
        self.nodes.append(node)
        return output


def largest_pole(graph: Graph, factor: float, held: Mapping[str, float] | None = None) -> float:
    """The largest |root| of the model linearised around silence, with its states read `factor` samples back; `held`: inputs
    that are not zero."""
    first, weights = interpolation(factor)
    largest = 0.0
    for eigenvalue in np.linalg.eigvals(_jacobian(graph, held or {})):
        polynomial = np.zeros(first + len(weights), complex)
        polynomial[0] = 1.0
        polynomial[first:] -= eigenvalue * np.array(weights)
        roots = np.roots(polynomial)
        largest = max(largest, float(np.abs(roots).max(initial=0.0)))
    return largest


def _jacobian(graph: Graph, held: Mapping[str, float]) -> Array:
    """d state[n] / d state[n - 1] at the point to which the model settles in silence, all states in a row."""
    silent = {name: np.full(graph.types[name].shape, held.get(name, 0.0)) for name in graph.inputs}

    def step(flat: Array) -> Array:
        values, at = dict(silent), 0
        for state in graph.states:
            values[state.read] = flat[at : at + state.init.size].reshape(state.init.shape)
            at += state.init.size
        found = evaluate_all(graph, values)
        return np.concatenate([found[state.write].ravel() for state in graph.states])

    point = np.concatenate([state.init.ravel() for state in graph.states]).astype(np.float64)
    for _ in range(_SETTLE):
        point, before = step(point), point
        if np.abs(point - before).max() < _STILL:
            break
    columns = []
    for k in range(len(point)):
        shift = np.zeros_like(point)
        shift[k] = _STEP * max(1.0, abs(point[k]))
        columns.append((step(point + shift) - step(point - shift)) / (2 * shift[k]))
    return np.stack(columns, axis=1)
