"""A Scan whose body is nothing but a recurrent cell becomes that cell: LSTM, GRU or RNN over all its frames.

The body is matched by its algebra (`formulas`), not by the nodes of one exporter. With gates that are an activation of
W x + R h + b, the products and sums of what it carries are, multiplied out,

    LSTM   c' = f c + i g          h' = o act(c')
    GRU    h' = n + z h - z n      or h' = h - u h + u n, where z = 1 - u;
           n = act(W x + b + r (R h + c)) (linear_before_reset = 1), or act(W x + R (r h) + b)
    RNN    h' = act(W x + R h + b)

whatever the order of the gates, with one product or several, x and h joined or apart, weights transposed or not.

What it is for: the op multiplies the input of all frames of a step by its weights at once, which is most of the time where
these do not lie in the nearest cache, and it can run backwards with a bounded look-ahead. What one frame costs is the same in
both forms: the graph of small ops is compiled too. So a Scan stays as it is where a step holds one frame, or where the input
has few weights. CPU time of the Scan over that of the op, 128 frames a step, as many inputs as hidden units, over the forms
that exporters write (medians, interleaved, one shared core with AVX-512):

    hidden units    16          32          64          128         256
    LSTM            1.1 - 1.4   0.9 - 1.2   1.2 - 1.5   1.2 - 1.4   2.3 - 2.6
    GRU             0.8 - 1.2   0.9 - 1.0   1.3 - 1.9   1.2 - 1.4   1.4 - 1.7
    RNN             0.9         0.8 - 1.0   1.0 - 1.1   1.3 - 1.4   1.1 - 1.4

One frame a step, in frame mode or in a step model, where the cell is part of the graph itself: LSTM 1.0 - 1.2 from Python,
and inside a block 0.9 - 1.4 up to 32 units, 1.0 - 1.1 above, 0.8 - 1.0 with 24 units, which the op pads to 32; GRU 0.8 - 1.3;
RNN 0.8 - 1.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from streamrnn.ir.graph import Array, Attr, Graph, Node
from streamrnn.ir.op import get_op
from streamrnn.ir.types import TensorType
from streamrnn.ir.verify import infer_node, site_of, verify
from streamrnn.ops.control import Scan
from streamrnn_converters.names import Names
from streamrnn_converters.passes.edit import everywhere, with_nodes
from streamrnn_converters.passes.formulas import Call, Formula, Formulas, Part, Row, Sums

#: multiply-adds of the input, for one frame, from which one product for all frames pays
MIN_WORK = 1 << 13
#: activations of the ops that a body may hold; a hard sigmoid has its slope in the sums
_ACTIVATIONS = frozenset({"Sigmoid", "Tanh", "Relu", "Softsign", "Softplus", "HardSigmoid"})
#: products of a sum that is multiplied out
_MAX_PRODUCTS = 32


def recognise_cells(graph: Graph, frames: int) -> Graph:
    """The graph with its Scans that are cells as LSTM, GRU or RNN, where that pays.

    frames: of a Scan along time in one step; 0 where that is the whole Scan.
    """

    @everywhere
    def rewrite(graph: Graph) -> Graph:
        nodes, names = list[Node](), Names(graph.types)
        types, constants = dict(graph.types), dict(graph.constants)
        for node in graph.nodes:
            found = _scan(graph, node, frames) if node.op == "Scan" else None
            if found is None:
                nodes.append(node)
                continue
            for new in found.nodes(graph, node, names, constants):
                types.update((name, TensorType.of(constants[name])) for name in new.inputs if name in constants)
                infer_node(types, site_of(graph.replace(types=types, constants=constants), new))
                nodes.append(new)
        return graph if len(nodes) == len(graph.nodes) else verify(with_nodes(graph, nodes, types, constants))

    return rewrite(graph)


# -- the algebra ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gate:
    """act(W x + R h + b + c); weights [H, n] in float64. c is what a reset gate multiplies along with R h."""

    act: str
    W: Array
    R: Array
    b: Array
    c: Array


@dataclass(frozen=True)
class Cell:
    """A cell, its gates and activations in the order of the op. `after`: linear_before_reset."""

    op: str
    gates: tuple[Gate, ...]
    acts: tuple[str, ...]
    after: bool = False


def _products(formula: Formula) -> dict[tuple[Formula, ...], float] | None:
    """A formula multiplied out: {factors, in one fixed order: coefficient}; None where it becomes large."""
    if isinstance(formula, Row) and formula.is_all(float(formula.values[0])):
        return {(): float(formula.values[0])}
    if not isinstance(formula, Call) or formula.op not in ("Add", "Mul"):
        return {(formula,): 1.0}
    left, right = (_products(arg) for arg in formula.args)
    if left is None or right is None:
        return None
    total: dict[tuple[Formula, ...], float] = {}
    if formula.op == "Add":
        pairs: Iterable[tuple[tuple[Formula, ...], float]] = (*left.items(), *right.items())
    else:
        pairs = [(tuple(sorted((*a, *b), key=id)), x * y) for a, x in left.items() for b, y in right.items()]
    for factors, value in pairs:
        total[factors] = total.get(factors, 0.0) + value
    total = {factors: value for factors, value in total.items() if value}
    return total if len(total) <= _MAX_PRODUCTS else None


def _of(*factors: Formula) -> tuple[Formula, ...]:
    return tuple(sorted(factors, key=id))


def _matrices(sums: Formula, *sources: Formula) -> list[Array] | None:
    """The weights [H, n] of each of `sources` in sums of them all and of nothing else."""
    if not isinstance(sums, Sums) or {term.formula for term in sums.terms} != set(sources):
        return None
    found = []
    for source in sources:
        each = [term.weights() for term in sums.terms if term.formula is source]
        found.append(np.sum(each, axis=0) if len(each) > 1 else each[0])
    return found


def _gate(formula: Formula, x: Part, h: Formula) -> Gate | None:
    """act(W x + R h + b)."""
    if not isinstance(formula, Call) or formula.op not in _ACTIVATIONS:
        return None
    (sums,) = formula.args
    matrices = _matrices(sums, x, h)
    if matrices is None or not isinstance(sums, Sums):
        return None
    bias = sums.whole_bias()
    return Gate(formula.op, matrices[0], matrices[1], bias, np.zeros_like(bias))


def _complement(gate: Gate) -> Gate | None:
    """The gate 1 - act(s) = act(-s) of a sigmoid, act(1 - s) of a hard one."""
    if gate.act not in ("Sigmoid", "HardSigmoid"):
        return None
    return Gate(gate.act, -gate.W, -gate.R, (gate.act == "HardSigmoid") - gate.b, -gate.c)


def _lstm(x: Part, h: Part, c: Part, new_h: Formula, new_c: Formula) -> Cell | None:
    outer, inner = _products(new_h), _products(new_c)
    if outer is None or inner is None or len(outer) != 1 or len(inner) != 2 or {*outer.values(), *inner.values()} != {1.0}:
        return None
    kept = next((factors for factors in inner if c in factors), ())
    added = next((factors for factors in inner if c not in factors), ())
    (result,) = outer
    if not len(kept) == len(added) == len(result) == 2:
        return None
    last = next((a for a in result if isinstance(a, Call) and a.args == (new_c,) and a.op in _ACTIVATIONS), None)
    forget = _gate(next((a for a in kept if a is not c), c), x, h)
    out = _gate(next((a for a in result if a is not last), c), x, h)
    for i, g in (added, added[::-1]):
        into, new = _gate(i, x, h), _gate(g, x, h)
        if last and forget and out and into and new and forget.act == out.act == into.act:
            return Cell("LSTM", (into, out, forget, new), (into.act, new.act, last.op))
    return None


def _gru(x: Part, h: Part, new_h: Formula) -> Cell | None:
    products = _products(new_h)
    single = [factors[0] for factors in products or () if len(factors) == 1]
    pairs = [factors for factors in products or () if len(factors) == 2]
    if products is None or len(products) != 3 or len(single) != 1 or len(pairs) != 2:
        return None
    shared = [a for a in pairs[0] if a in pairs[1]]
    if len(shared) != 1:
        return None
    z = shared[0]
    n = next((a for pair in pairs for a in pair if a is not z and a is not h), h)
    gate = _gate(z, x, h)
    if products == {(h,): 1.0, _of(z, h): -1.0, _of(z, n): 1.0}:
        gate = gate and _complement(gate)
    elif products != {(n,): 1.0, _of(z, h): 1.0, _of(z, n): -1.0}:
        return None
    if gate is None or not isinstance(n, Call) or n.op not in _ACTIVATIONS:
        return None
    after = _reset_after(n, x, h)
    found = after or _reset_before(n, x, h)
    if found is None or found[0].act != gate.act:
        return None
    return Cell("GRU", (gate, *found), (gate.act, n.op), after is not None)


def _reset_after(n: Call, x: Part, h: Part) -> tuple[Gate, Gate] | None:
    """(r, n) of act(W x + b + r * (R h + c))."""
    products = _products(n.args[0])
    if products is None or len(products) != 2 or set(products.values()) != {1.0}:
        return None
    outer = next((factors[0] for factors in products if len(factors) == 1), None)
    pair = next((factors for factors in products if len(factors) == 2), ())
    inner = next((a for a in pair if isinstance(a, Sums)), None)
    reset = next((_gate(a, x, h) for a in pair if a is not inner), None)
    if not isinstance(outer, Sums) or inner is None or reset is None:
        return None
    W, R = _matrices(outer, x), _matrices(inner, h)
    return (reset, Gate(n.op, W[0], R[0], outer.whole_bias(), inner.whole_bias())) if W and R else None


def _reset_before(n: Call, x: Part, h: Part) -> tuple[Gate, Gate] | None:
    """(r, n) of act(W x + R (r * h) + b)."""
    (sums,) = n.args
    kept = next((t.formula for t in sums.terms if t.formula is not x), None) if isinstance(sums, Sums) else None
    if not isinstance(kept, Call) or kept.op != "Mul" or h not in kept.args:
        return None
    r = next((a for a in kept.args if a is not h), h)
    reset, new = _gate(r, x, h), _gate(n, x, kept)
    return (reset, new) if reset and new else None


def _rnn(x: Part, h: Part, new_h: Formula) -> Cell | None:
    gate = _gate(new_h, x, h)
    return Cell("RNN", (gate,), (gate.act,)) if gate else None


# -- the node -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CellScan:
    """A Scan that is a cell: its states in the order h, c, and whether it runs from the last slice."""

    cell: Cell
    states: tuple[int, ...]
    reverse: bool

    def nodes(self, graph: Graph, scan: Node, names: Names, constants: dict[str, Array]) -> list[Node]:
        """What the Scan becomes; `constants` gets the weights."""
        made: list[Node] = []

        def constant(part: str, value: Array) -> str:
            name = names.fresh(f"{scan.name}.{part}")
            constants[name] = value
            return name

        def placed(name: str, op: str, axes: Sequence[int], target: str = "") -> str:
            target = target or names.fresh(f"{name}.{op.lower()}")
            made.append(Node(op, target, (name, constant("axes", np.array(axes))), (target,)))
            return target

        count, place = len(self.states), names.fresh(f"{scan.name}.{self.cell.op.lower()}")
        flat = graph.types[scan.inputs[0]].rank == 1
        x = placed(scan.inputs[count], "Unsqueeze", [1]) if flat else scan.inputs[count]
        initial = []
        for k in self.states:
            name, axes = scan.inputs[k], (0, 1) if flat else (0,)
            known = graph.const(name)
            added = None if known is None else known.reshape((1,) * len(axes) + known.shape)
            initial.append(placed(name, "Unsqueeze", axes) if added is None else constant("initial", added))
        weights = [constant(part, value) for part, value in zip("WRB", self._weights(), strict=True)]
        stacked = [name for name in scan.outputs[count:] if name]
        results = [f"{place}.Y" if stacked else "", *(f"{place}.Y_{'hc'[k]}" for k in range(count))]
        at = len(made)
        for name in stacked:
            placed(results[0], "Squeeze", (1, 2) if flat else (1,), name)
        for k, result in zip(self.states, results[1:], strict=True):
            if scan.outputs[k]:
                placed(result, "Squeeze", (0, 1) if flat else (0,), scan.outputs[k])
        made.insert(at, Node(self.cell.op, place, (x, *weights, "", *initial), tuple(results), self._attrs()))
        return made

    def _weights(self) -> list[Array]:
        """W [1, G H, I], R [1, G H, H], B [1, 2 G H]."""
        rows = [[getattr(gate, part) for gate in self.cell.gates] for part in ("W", "R", "b", "c")]
        W, R, b, c = (np.concatenate(row) for row in rows)
        return [np.ascontiguousarray(value[None], np.float32) for value in (W, R, np.concatenate([b, c]))]

    def _attrs(self) -> dict[str, Attr]:
        attrs: dict[str, Attr] = {"hidden_size": len(self.cell.gates[0].b), "activations": self.cell.acts}
        hard = self.cell.acts.count("HardSigmoid")
        if hard:
            attrs.update(activation_alpha=(1.0,) * hard, activation_beta=(0.0,) * hard)
        if self.reverse:
            attrs["direction"] = "reverse"
        if self.cell.op == "GRU":
            attrs["linear_before_reset"] = int(self.cell.after)
        return attrs


def _scan(graph: Graph, node: Node, frames: int) -> CellScan | None:
    """What cell a Scan is, None where it is none or where that does not pay."""
    op, site = get_op(node), site_of(graph, node)
    assert isinstance(op, Scan)
    body, count = node.bodies[0], site.attr_int("states", 0)
    if (len(node.inputs), site.attr_int("num_scan_inputs", 0)) != (count + 1, 1) or count not in (1, 2):
        return None
    stacked = [k for k, name in enumerate(node.outputs[count:]) if name]
    reverse = op.reverse(site, "input", 0)
    if any(op.reverse(site, "output", k) != reverse for k in stacked):
        return None
    several = frames != 1 and op.trips(site) > 1
    formulas = Formulas.of(body, body.inputs) if several or reverse else None
    if formulas is None or len({body.types[name].rank for name in body.inputs}) != 1:
        return None
    found = _matched(formulas, body, count)
    if found is None or any(formulas.found.get(body.outputs[count + k]) is not found[2] for k in stacked):
        return None
    if any(body.types[body.outputs[count + k]] != body.types[body.inputs[0]] for k in stacked):
        return None
    cell, states, _ = found
    pays = sum(gate.W.size for gate in cell.gates) >= MIN_WORK
    return CellScan(cell, states, reverse) if pays or reverse else None


def _matched(formulas: Formulas, body: Graph, count: int) -> tuple[Cell, tuple[int, ...], Formula] | None:
    """(cell, its states in the order h, c, the new h) of a body."""
    parts = [formulas.found[name] for name in body.inputs]
    new = [formulas.found.get(name) for name in body.outputs[:count]]
    if any(formula is None for formula in new):
        return None
    for order in ((0,),) if count == 1 else ((0, 1), (1, 0)):
        states = [(parts[k], new[k]) for k in order]
        (h, new_h), *rest = states
        x = parts[count]
        assert isinstance(x, Part)
        assert isinstance(h, Part)
        assert new_h is not None
        if not rest:
            cell = _gru(x, h, new_h) or _rnn(x, h, new_h)
        else:
            ((c, new_c),) = rest
            assert isinstance(c, Part)
            assert new_c is not None
            cell = _lstm(x, h, c, new_h, new_c)
        if cell is not None:
            return cell, order, new_h
    return None
