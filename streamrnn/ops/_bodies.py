"""Time inside of branches and loops: a body that computes each frame from that frame alone streams with the node around it.

What remembers frames may not be in it: a branch sees the frames for which it is chosen and no others, and an iteration has no
state of its own from one frame to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from streamrnn.ir.graph import Graph, Node
from streamrnn.ir.op import Site, Streamed, get_op
from streamrnn.ir.types import StreamType, TensorType
from streamrnn.ir.verify import infer_node, site_of


def streamed_body(site: Site, body: Graph, streams: Sequence[StreamType | None]) -> tuple[Graph, list[StreamType | None]]:
    """A body of the node at `site` as it runs frame by frame, and how time runs through its outputs.

    streams: of its inputs, all with one delay and one rate. The types in the result are still those of the whole clip; see
    `typed_body`. Raises NotStreamableError with the node in the body that needs more than one frame.
    """
    known = {name: stream for name, stream in zip(body.inputs, streams, strict=True) if stream is not None}
    clock = {(stream.delay, stream.stride) for stream in known.values()}
    constants, nodes = dict(body.constants), list[Node]()
    for node in body.nodes:
        given = [known.get(name) if name else None for name in node.inputs]
        if any(given):
            rule = get_op(node).stream(site_of(body, node), given)
            known.update((n, s) for n, s in zip(node.outputs, rule.outputs, strict=False) if n and s is not None)
            if _remembers(rule) or {(s.delay, s.stride) for s in rule.outputs if s is not None} - clock:
                raise site.not_streamable(
                    f"'{node.name}' ({node.op}) in its body needs other frames than the present one, and a body is given that "
                    f"alone; move the node out of the body"
                )
            inputs = list(node.inputs)
            for index, value in rule.consts.items():
                inputs[index] = unused_name(f"{node.name}.in{index}", body)
                constants[inputs[index]] = value
            bodies = node.bodies if rule.bodies is None else rule.bodies
            node = replace(node, inputs=tuple(inputs), attrs={**node.attrs, **rule.attrs}, bodies=bodies)
        elif not get_op(node).deterministic:
            raise site.not_streamable(f"'{node.name}' ({node.op}) in its body draws once for the whole clip")
        nodes.append(node)
    return body.replace(nodes=tuple(nodes), constants=constants), [known.get(name) for name in body.outputs]


def unused_name(base: str, body: Graph) -> str:
    """A name that nothing in a body has."""
    while base in body.types:
        base += "_"
    return base


def _remembers(rule: Streamed) -> bool:
    return bool(rule.states or rule.kept or rule.before or rule.forward)


def typed_body(body: Graph, given: Sequence[TensorType]) -> Graph:
    """The body with inputs of these types, and all other types anew. Raises ShapeError."""
    used = {name for node in body.nodes for name in node.inputs} | {*body.outputs}
    constants = {name: array for name, array in body.constants.items() if name in used}
    types = dict(zip(body.inputs, given, strict=True))
    types.update((name, TensorType.of(array)) for name, array in constants.items())
    nodes = []
    for node in body.nodes:
        bare = body.replace(types=types, constants=constants)
        node = typed_node(node, site_of(bare, node))
        infer_node(types, site_of(bare, node))
        nodes.append(node)
    return body.replace(nodes=tuple(nodes), types=types, constants=constants)


def typed_node(node: Node, site: Site) -> Node:
    """The node with its bodies typed by its inputs."""
    if not node.bodies:
        return node
    given = get_op(node).handed(site)
    return replace(node, bodies=tuple(typed_body(body, given) for body in node.bodies))
