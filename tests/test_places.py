"""Where values lie: parts of a Concat are computed in it, states in their own memory, and no value is lost to another.

Random step graphs of ops that move elements, whose values are small whole numbers: NumPy and every form of the plan give the
same bits, step after step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import typed
from test_plan import assert_no_overlap, step_graph

from streamrnn import Engine, Stream
from streamrnn.blocks import Form
from streamrnn.codegen.interpret import Interpreter
from streamrnn.ir.evaluate import evaluate
from streamrnn.ir.graph import Array, Graph, Node, Stage, State
from streamrnn.ir.types import DType, TensorType
from streamrnn.plan import Copy, StepPlan, each
from streamrnn.planner import make_plan

WIDTH = 4
STEPS = 80


class Grown:
    """A random step graph: x and states of [1 .. 3, WIDTH] -> values of [rows, WIDTH]."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Node] = []
        self.constants: dict[str, Array] = {}
        self.rows = {"x": 2}
        states = {f"s{k}": int(self.rng.integers(1, 4)) for k in range(self.rng.integers(1, 4))}
        self.rows |= states
        for _ in range(self.rng.integers(3, 16)):
            make: Any = self.pick(
                [self.joined, self.joined, self.cut, self.split, self.shaped, self.written, self.mixed, self.product]
            )
            make()
        inits = {s: self.numbers(n, WIDTH) for s, n in states.items()}
        self.states = tuple(State(s, s, self.next(s, n), inits[s]) for s, n in states.items())
        outputs = {self.pick(list(self.rows)[1 + len(states) :]) for _ in range(2)}
        self.outputs = tuple(sorted(outputs))

    def graph(self) -> Graph:
        given = {"x": self.rows["x"], **{s.read: len(s.init) for s in self.states}}
        types = {name: TensorType(DType.F32, (n, WIDTH)) for name, n in given.items()}
        return typed(Graph("g", Stage.STEP, ("x",), self.outputs, tuple(self.nodes), types, dict(self.constants), self.states))

    def next(self, state: str, rows: int) -> str:
        """What a state becomes: any value, or its own rows moved on by one."""
        if rows == 1 or self.rng.integers(2):
            return self.with_rows(rows)
        first = int(self.rng.integers(2))
        kept, new = self.cut(first, rows - 1, state), self.pick([self.cut(0, 1), self.cut(1, 1, "x")])
        return self.joined([kept, new] if first else [new, kept])

    # -- pieces -----------------------------------------------------------------------------------------------------

    def pick(self, things: Any) -> Any:
        return things[int(self.rng.integers(len(things)))]

    def numbers(self, *shape: int) -> Array:
        return self.rng.integers(-9, 10, shape).astype(np.float32)

    def constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def node(self, op: str, inputs: list[str], rows: int, **attrs: Any) -> str:
        name = f"v{len(self.rows)}"
        self.nodes.append(Node(op, name, tuple(inputs), (name,), attrs))
        self.rows[name] = rows
        return name

    def value(self, least: int = 1) -> str:
        return str(self.pick([name for name, rows in self.rows.items() if rows >= least]))

    def with_rows(self, rows: int) -> str:
        """A value of so many rows, computed for this where there is none."""
        found = [name for name, n in self.rows.items() if n == rows and name != "x"]
        return str(self.pick(found)) if found else self.joined([self.cut(0, 1) for _ in range(rows)])

    def joined(self, names: list[str] | None = None) -> str:
        names = names or [self.value() for _ in range(self.rng.integers(2, 4))]
        total = sum(self.rows[name] for name in names)
        return self.node("Concat", names, total, axis=0) if total <= 12 else self.cut(0, 2)

    def cut(self, first: int | None = None, count: int | None = None, name: str = "") -> str:
        name = name or self.value(2)
        first = int(self.rng.integers(self.rows[name])) if first is None else first
        count = int(self.rng.integers(1, self.rows[name] - first + 1)) if count is None else count
        return self.node("Slice", [name, self.constant([first]), self.constant([first + count]), self.constant([0])], count)

    def split(self) -> None:
        name = self.value(2)
        first = int(self.rng.integers(1, self.rows[name]))
        sizes = (first, self.rows[name] - first)
        outputs = tuple(f"v{len(self.rows) + k}" for k in range(2))
        self.nodes.append(Node("Split", outputs[0], (name, self.constant(sizes)), outputs, {"axis": 0}))
        self.rows |= dict(zip(outputs, sizes, strict=True))

    def shaped(self) -> str:
        """Through another shape and back, so that views lie between a value and the Concat that it is part of."""
        name = self.value()
        rows = self.rows[name]
        flat = f"{name}.flat{len(self.nodes)}"
        self.nodes.append(Node("Reshape", flat, (name, self.constant([rows * WIDTH])), (flat,)))
        return self.node("Reshape", [flat, self.constant([rows, WIDTH])], rows)

    def written(self) -> str:
        """Rows of a value, one behind the other or every other one, exchanged for those of another."""
        name = self.value()
        rows = self.rows[name]
        at = np.arange(rows)[int(self.rng.integers(rows)) :: int(self.rng.integers(1, 3))]
        update = self.with_rows(len(at))
        return self.node("ScatterND", [name, self.constant(at[:, None]), update], rows)

    def mixed(self) -> str:
        op = self.pick(["Max", "Min", "Neg", "Relu"])
        name = self.value()
        rows = self.rows[name]
        other = [self.with_rows(rows)] if op in ("Max", "Min") else []
        return self.node(op, [name, *other], rows)

    def product(self) -> str:
        """Columns in another order and with other signs: exact in float32."""
        name = self.value()
        turned = np.eye(WIDTH, dtype=np.float32)[self.rng.permutation(WIDTH)] * self.pick([1, -1])
        return self.node("MatMul", [name, self.constant(turned.astype(np.float32))], self.rows[name])


def expected(graph: Graph, X: Array) -> dict[str, Array]:
    """The outputs of all steps, in NumPy, every value in memory of its own."""
    held = {state.read: state.init for state in graph.states}
    names = list(held)
    body = graph.replace(
        stage=Stage.BODY, states=(), inputs=(*graph.inputs, *names), outputs=(*graph.outputs, *(s.write for s in graph.states))
    )
    rows = []
    for x in X:
        found = evaluate(body, [x, *(held[name] for name in names)])
        rows.append(found[: len(graph.outputs)])
        held = dict(zip(names, found[len(graph.outputs) :], strict=True))
    return {name: np.stack(values) for name, values in zip(graph.outputs, zip(*rows, strict=True), strict=True)}


def frames(seed: int, steps: int) -> Array:
    return np.random.default_rng(seed).integers(-9, 10, (steps, 2, WIDTH)).astype(np.float32)


def apart(plan: StepPlan, copy: Copy) -> bool:
    """Whether a copy reads nothing that it writes."""
    (space, source), (_, target) = (plan.place(place) for place in (copy.source, copy.target))
    return space == "weights" or source + copy.size <= target or target + copy.size <= source


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_no_value_is_lost_to_another(seed: int) -> None:
    graph = Grown(seed).graph()
    plan = make_plan(graph)
    assert_no_overlap(plan)
    assert all(apart(plan, copy) for copy in copies(plan))
    X = frames(seed, 4)
    plain = Interpreter(plan)
    found = [plain.step([x]) for x in X]
    for k, (name, wanted) in enumerate(expected(graph, X).items()):
        np.testing.assert_array_equal(np.stack([values[k] for values in found]), wanted, err_msg=name)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_a_block_of_any_steps_loses_none_either(seed: int) -> None:
    graph = Grown(seed).graph()
    plan = make_plan(graph)
    block = Form(plan).over(3)
    X = frames(seed, 3)
    found = Interpreter(block.plan).step([X])
    for values, (name, wanted) in zip(found, expected(graph, X).items(), strict=True):
        np.testing.assert_array_equal(values, wanted, err_msg=name)


@pytest.mark.parametrize("seed", range(16))
def test_machine_code_loses_none_whatever_the_chunks(seed: int) -> None:
    graph = Grown(seed).graph()
    engine = Engine(graph)
    X = frames(seed, STEPS)
    wanted = expected(graph, X)
    for stream in (Stream(engine), Stream(engine)):
        parts = [stream.process(part) for part in np.split(X, [1, 40, 41])]
        for name, values in wanted.items():
            found = np.concatenate([part[name] if isinstance(part, dict) else part for part in parts])
            np.testing.assert_array_equal(found.reshape(values.shape), values, err_msg=name)


def copies(plan: StepPlan) -> list[Copy]:
    return [copy for copy, _ in each((*plan.calls, *plan.commit)) if isinstance(copy, Copy)]


def test_parts_of_a_concat_are_computed_in_it() -> None:
    nodes = [
        Node("Neg", "a", ("x",), ("a",)),
        Node("Relu", "c", ("x",), ("c",)),
        Node("Concat", "y", ("a", "c"), ("y",), {"axis": 0}),
    ]
    assert copies(make_plan(step_graph(nodes, {"x": 5}, ["y"]))) == []


def test_a_view_of_what_is_joined_lies_in_its_part_too() -> None:
    constants = {"flat": np.array([6]), "square": np.array([2, 3])}
    nodes = (
        Node("Neg", "a", ("x",), ("a",)),
        Node("Reshape", "b", ("a", "square"), ("b",)),
        Node("Reshape", "c", ("b", "flat"), ("c",)),
        Node("Relu", "d", ("x",), ("d",)),
        Node("Concat", "y", ("c", "d"), ("y",), {"axis": 0}),
    )
    types = {"x": TensorType(DType.F32, (6,))}
    assert copies(make_plan(typed(Graph("g", Stage.STEP, ("x",), ("y",), nodes, types, constants)))) == []


def test_a_state_is_computed_where_it_lies_once_the_old_one_is_read() -> None:
    nodes = [Node("Add", "sum", ("s0", "x"), ("y",)), Node("Neg", "next", ("x",), ("s1",))]
    plan = make_plan(step_graph(nodes, {"x": 5}, ["y"], (State("s", "s0", "s1", np.zeros(5, np.float32)),)))
    assert copies(plan) == []


def test_rows_of_a_state_change_in_place_while_others_are_still_to_be_read() -> None:
    """One state of two caches, as exporters pack them: each is cut out, changed and put back."""
    zero = np.zeros((2, WIDTH), np.float32)
    constants = {
        "row0": np.array([[0]]),
        "row1": np.array([[1]]),
        "n0": np.array([0]),
        "n1": np.array([1]),
        "n2": np.array([2]),
    }
    nodes = (
        Node("Neg", "a", ("x",), ("a",)),
        Node("ScatterND", "put0", ("s0", "row0", "a"), ("t",)),
        Node("Slice", "old1", ("t", "n1", "n2", "n0"), ("old",)),
        Node("Add", "b", ("old", "x"), ("b",)),
        Node("ScatterND", "put1", ("t", "row1", "b"), ("s1",)),
        Node("Relu", "out", ("b",), ("y",)),
    )
    types = {"x": TensorType(DType.F32, (1, WIDTH)), "s0": TensorType.of(zero)}
    graph = typed(Graph("g", Stage.STEP, ("x",), ("y",), nodes, types, constants, (State("s", "s0", "s1", zero),)))
    assert [copy.size for copy in copies(make_plan(graph))] == [WIDTH * 4] * 2
