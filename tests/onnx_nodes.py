"""The node tests of the ONNX standard, which the onnx package carries as code: inputs and expected outputs of single nodes."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

import onnx
from onnx.backend.test.case import node as standard

from streamrnn.ir.graph import Array


@dataclass(frozen=True)
class NodeTest:
    """One node, also as a model in which everything is an input, with its inputs and outputs by name."""

    name: str
    model: onnx.ModelProto
    node: onnx.NodeProto
    inputs: dict[str, Array]
    outputs: dict[str, Array]

    def __str__(self) -> str:
        return self.name


def node_tests(op: str, module: str = "") -> list[NodeTest]:
    """The tests of one operator, which lie in `onnx.backend.test.case.node.<module>` (the operator's name in lower case).

    Importing that module enters its tests into a list. `collect_testcases`, the public way to the list, imports all
    modules, which takes seconds and raises warnings.
    """
    importlib.import_module(f"{standard.__name__}.{module or op.lower()}")
    found = []
    for case in standard._NodeTestCases:
        graph = case.model.graph
        if graph.node[0].op_type == op:
            [(inputs, outputs)] = case.data_sets
            names = ([value.name for value in values] for values in (graph.input, graph.output))
            given, expected = (dict(zip(n, a, strict=True)) for n, a in zip(names, (inputs, outputs), strict=True))
            found.append(NodeTest(case.name, case.model, graph.node[0], given, expected))
    return found
