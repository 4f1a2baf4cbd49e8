"""A graph as text: one line per value, node and state, for dumps and tests."""

from __future__ import annotations

from streamrnn.ir.graph import Graph


def graph_text(graph: Graph) -> str:
    """The whole graph; arrays are shown by type alone, bodies are indented below their node."""
    return "\n".join(_lines(graph))


def _lines(graph: Graph) -> list[str]:
    lines = [f"graph {graph.name} ({graph.stage.value})"]
    lines += [f"  input  {_value(graph, name)}" for name in graph.inputs]
    for state in graph.states:
        lines.append(
            f"  state  {state.name}: {state.read} <- {state.write}  {graph.types[state.read]} {state.kind}, {state.evidence}"
        )
    lines += [f"  const  {_value(graph, name)}" for name in graph.constants]
    for node in graph.nodes:
        lines.append(f"  {node}    {', '.join(str(graph.types[o]) for o in node.outputs if o)}")
        lines += [f"    {line}" for body in node.bodies for line in _lines(body)]
    lines += [f"  output {_value(graph, name)}" for name in graph.outputs]
    return lines


def _value(graph: Graph, name: str) -> str:
    stream = graph.streams.get(name)
    return f"{name}: {graph.types[name]}" + (f" ({stream})" if stream else "")
