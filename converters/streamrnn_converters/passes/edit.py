"""What passes share when they take nodes out or rename values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from streamrnn.ir.graph import Node


def renamed(node: Node, names: Mapping[str, str]) -> Node:
    """The node with its values renamed."""
    if names.keys().isdisjoint((*node.inputs, *node.outputs)):
        return node
    return replace(
        node,
        inputs=tuple(names.get(name, name) for name in node.inputs),
        outputs=tuple(names.get(name, name) for name in node.outputs),
    )


def live_nodes(nodes: Sequence[Node], results: Iterable[str]) -> list[Node]:
    """The nodes that `results` depend on, in order."""
    needed = set(results)
    found = []
    for node in reversed(nodes):
        if not needed.isdisjoint(name for name in node.outputs if name):
            needed.update(node.inputs)
            found.append(node)
    return found[::-1]
