"""A recurrence that an exporter wrote out over a clip becomes a Scan again, in frame mode.

Tracing writes a loop of Python out: the same nodes once for each frame, each time behind what the time before gave.

    pick     one index of an axis of a value (Gather, Slice, Split); every index has to be picked
    level    of a value: the last frame that it depends on, or the next one where only that reads it and a state is smaller so
             (R h is made of h where it is read)
    block t  the nodes of level t

Block 2 has to be block 1, node for node in the file's order, with weights of the same content and the picks of the next frame;
where block 1 reads a value of level 0, which is then a state, block 2 reads the next value of that state. Every later block has
to be the same with the states moved on. Block 0 has lost what was folded into constants, so it is proven by values: its own
nodes and block 1 on the initial states have to give the same for random frames. Results are one value of all blocks, joined by
a Concat in their order, and values of the last block. Whatever is not exactly so stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from streamrnn.errors import StreamRNNError
from streamrnn.ir.evaluate import evaluate_all
from streamrnn.ir.graph import Array, Graph, Node
from streamrnn.ir.op import get_op
from streamrnn.ir.types import TensorType
from streamrnn_converters.passes.declutter import declutter
from streamrnn_converters.passes.edit import Contents, renamed
from streamrnn_converters.passes.roll import Loop, Pick, roll

#: frames of a clip below which nothing is said to repeat: blocks 0 and the last one are special
SHORTEST = 4
#: values whose frames are looked at, at most: a file may not make an import slow
_MOST = 64


def reroll(graph: Graph) -> Graph:
    """The decluttered graph with every recurrence that was written out as a Scan. meta "rerolled": the frames of each.

    Raises GraphError.
    """
    lengths: list[int] = []
    while (found := _first(graph)) is not None:
        length, graph = found
        lengths.append(length)
        graph = declutter(graph)
    return graph.replace(meta={**graph.meta, "rerolled": lengths}) if lengths else graph


def _first(graph: Graph) -> tuple[int, Graph] | None:
    """(frames, new graph) for the first recurrence that is written out."""
    picks = {name: pick for node in graph.nodes for name, pick in _picked(graph, node)}
    for track in list(_whole(graph, picks))[:_MOST]:
        for late in (True, False):
            written = _Written.of(graph, picks, track, late)
            if written is not None and (new := written.rolled()) is not None:
                return written.length, new
    return None


def _whole(graph: Graph, picks: Mapping[str, Pick]) -> dict[tuple[str, int], int]:
    """Axes of which every frame is picked, and how many these are."""
    seen: dict[tuple[str, int], set[int]] = {}
    for pick in picks.values():
        seen.setdefault(pick.track, set()).add(pick.at)
    lengths = {(x, axis): graph.types[x].shape[axis] for x, axis in seen}
    return {track: n for track, n in lengths.items() if n == len(seen[track]) >= SHORTEST}


def _picked(graph: Graph, node: Node) -> Iterator[tuple[str, Pick]]:
    if node.op not in ("Gather", "Slice", "Split"):
        return
    x, y = graph.types[node.inputs[0]], graph.types[node.outputs[0]]
    if node.op == "Slice":
        cut = [d for d, (n, m) in enumerate(zip(x.shape, y.shape, strict=True)) if n != m]
        starts, axes = graph.const(node.inputs[1]), graph.const(node.inputs[3]) if len(node.inputs) > 3 else np.array([0])
        if len(cut) == 1 and y.shape[cut[0]] == 1 and starts is not None and axes is not None and starts.size == 1:
            size, start = x.shape[cut[0]], int(starts.reshape(-1)[0])
            yield node.outputs[0], Pick((node.inputs[0], cut[0]), min(start + size * (start < 0), size - 1), True)
        return
    axis = int(str(node.attrs.get("axis", 0))) % max(1, x.rank)
    if node.op == "Split":
        names = [(name, Pick((node.inputs[0], axis), t, True)) for t, name in enumerate(node.outputs) if name]
        yield from names if len(node.outputs) == x.shape[axis] and y.shape[axis] == 1 else []
        return
    index = graph.const(node.inputs[1])
    if index is not None and index.size == 1 and index.ndim < 2:
        yield node.outputs[0], Pick((node.inputs[0], axis), int(index.reshape(-1)[0]) % x.shape[axis], index.ndim == 1)


def _behind(graph: Graph, names: set[str]) -> set[str]:
    """`names` and all values that depend on them."""
    found = set(names)
    for node in graph.nodes:
        if not found.isdisjoint(node.inputs):
            found.update(node.outputs)
    return found


#: nodes that read one value, of which it is asked whether they can be put off together
_TOGETHER = 16


def _put_off(graph: Graph, nodes: Sequence[Node], levels: dict[str, int]) -> None:
    """Raise the level of what only nodes of the next one read, where the values that then cross over are not larger: of a node,
    or of all that read the same values (the gates that are cut out of one product)."""
    readers: dict[str, list[Node]] = {}
    joining = set()  # what reads values of more than two levels is a result, not a part of a block
    for node in nodes:
        read = [name for name in dict.fromkeys(node.inputs) if name in levels]
        if max(levels[name] for name in read) - min(levels[name] for name in read) > 1:
            joining.add(node.name)
        for name in read:
            readers.setdefault(name, []).append(node)
    results = set(graph.results())

    def level_of(node: Node) -> int:
        return levels[next(name for name in node.outputs if name)]

    def only_next(node: Node) -> bool:
        made = [name for name in node.outputs if name]
        after = [reader for name in made for reader in readers.get(name, ())]
        if not after or not results.isdisjoint(made):
            return False
        return all(reader.name not in joining and level_of(reader) == level_of(node) + 1 for reader in after)

    def gain(group: Sequence[Node]) -> int:
        level, moved = level_of(group[0]), {node.name for node in group}
        made = {name for node in group for name in node.outputs if name}
        read = {name for node in group for name in node.inputs if levels.get(name) == level}
        new = [name for name in read if all(level_of(r) == level for r in readers[name] if r.name not in moved)]
        return sum(graph.types[name].size for name in made) - sum(graph.types[name].size for name in new)

    for node in reversed(nodes):
        if not only_next(node):
            continue
        group = [node]
        if gain(group) < 0:
            beside = [r for name in node.inputs if levels.get(name) == level_of(node) for r in readers[name][:_TOGETHER]]
            group = [reader for reader in beside if level_of(reader) == level_of(node)]
            if not all(map(only_next, group)) or gain(group) < 0:
                continue
        level = level_of(node) + 1
        levels.update((name, level) for other in group for name in other.outputs if name)


def _kind(node: Node) -> object:
    return node.op, tuple(sorted(node.attrs.items())), len(node.inputs), len(node.outputs)


def _repeatable(node: Node) -> bool:
    return get_op(node).deterministic and not node.bodies


@dataclass
class _Written:
    """A loop of `length` frames that is written out in `graph`.

    picks:  its frames by name; names: the name of each.
    levels: of values. blocks: the nodes of each level but those of picks.
    states: the values of level 0 that block 1 reads, and the value of block 1 that is the next of each.
    images: for each frame, the value of its block that stands for one of block 1; {} for frame 0.
    """

    graph: Graph
    picks: Mapping[str, Pick]
    names: Mapping[Pick, str]
    length: int
    levels: dict[str, int]
    blocks: list[list[Node]]
    contents: Contents
    states: dict[str, str] = field(default_factory=dict)
    images: list[dict[str, str]] = field(default_factory=list)

    @staticmethod
    def of(graph: Graph, picks: Mapping[str, Pick], track: tuple[str, int], late: bool) -> _Written | None:
        """What is written out over the frames of `track`, and of other values of as many frames; None where blocks differ.
        late: whether nodes that the next frame alone reads may belong to its block."""
        behind = _behind(graph, {name for name, pick in picks.items() if pick.track == track})
        lengths = _whole(graph, picks)
        length = lengths[track]
        whole = {other for other, n in lengths.items() if n == length and other[0] not in behind}
        if track not in whole:
            return None
        mine = {name: pick for name, pick in picks.items() if pick.track in whole}
        names = {pick: name for name, pick in reversed(mine.items())}
        aliases = {name: names[pick] for name, pick in mine.items() if names[pick] != name}
        same = (node if any(name in mine for name in node.outputs) else renamed(node, aliases) for node in graph.nodes)
        graph = graph.replace(nodes=tuple(same))
        levels = {name: pick.at for name, pick in mine.items()}
        nodes: list[Node] = []
        for node in graph.nodes:
            level = max((levels[name] for name in node.inputs if name in levels), default=-1)
            if level >= 0 and not any(name in mine for name in node.outputs):
                levels.update((name, level) for name in node.outputs if name)
                nodes.append(node)
        if late:
            _put_off(graph, nodes, levels)
        blocks: list[list[Node]] = [[] for _ in range(length)]
        for node in nodes:
            blocks[levels[next(name for name in node.outputs if name)]].append(node)
        written = _Written(graph, mine, names, length, levels, blocks, Contents(graph.constants))
        return written if written._matches() else None

    # -- whether all blocks are the same --------------------------------------------------------------------------------

    def _matches(self) -> bool:
        first = {name: name for node in self.blocks[1] for name in node.outputs if name}
        second = self._in_order(2, self.states)
        if second is None or not self.states or not all(map(_repeatable, self.blocks[1])):
            return False
        self.images = [{}, first, second]
        for t in range(3, self.length):
            image = self._looked_up(t)
            if image is None:
                return False
            self.images.append(image)
        return True

    def _in_order(self, t: int, states: dict[str, str]) -> dict[str, str] | None:
        """The image of block 1 in block t, which has as many nodes in the same order. `states` takes what stands for the
        states: values of the level before, in block 0 values without a level."""
        before = None if t == 0 else t - 1
        image: dict[str, str] = {}
        if len(self.blocks[t]) != len(self.blocks[1]):
            return None
        for a, b in zip(self.blocks[1], self.blocks[t], strict=True):
            if _kind(a) != _kind(b):
                return None
            for i, o in zip(a.inputs, b.inputs, strict=True):
                if self.levels.get(i) == 0:
                    if self.levels.get(o) != before or states.setdefault(i, o) != o:
                        return None
                elif self._moved(i, t, image, {}) != self._own(o):
                    return None
            image.update((i, o) for i, o in zip(a.outputs, b.outputs, strict=True) if i)
        return image

    def _looked_up(self, t: int) -> dict[str, str] | None:
        """The image of block 1 in block t by what each node reads. The last block may lack what only a next one would need."""
        last = t == self.length - 1
        states = {state: name for state, new in self.states.items() if (name := self.value(new, t - 1)) is not None}
        waiting: dict[object, list[Node]] = {}
        for node in self.blocks[t]:
            waiting.setdefault((_kind(node), tuple(map(self._own, node.inputs))), []).append(node)
        image: dict[str, str] = {}
        for node in self.blocks[1]:
            found = waiting.get((_kind(node), tuple(self._moved(name, t, image, states) for name in node.inputs)))
            if found:
                image.update((i, o) for i, o in zip(node.outputs, found.pop(0).outputs, strict=True) if i)
            elif not last:
                return None
        return image if last or not any(waiting.values()) else None

    def value(self, name: str, t: int) -> str | None:
        """What stands at frame t for a value of block 1 or a pick of its frame."""
        pick = self.picks.get(name)
        return self.images[t].get(name) if pick is None else self.names.get(replace(pick, at=t))

    def _moved(self, name: str, t: int, image: Mapping[str, str], states: Mapping[str, str]) -> object:
        """What a node of block t has to read where the one of block 1 reads `name`, as `_own` says it; None for nothing."""
        level, pick = self.levels.get(name), self.picks.get(name)
        if level == 0:
            return states.get(name)
        if pick is not None:
            return self.names.get(replace(pick, at=t))
        return self._own(name) if level is None else image.get(name)

    def _own(self, name: str) -> object:
        """A constant by its content, another value by its name."""
        return self.contents.of(name) or name

    # -- what comes out -------------------------------------------------------------------------------------------------

    def rolled(self) -> Graph | None:
        """The graph with a Scan in the place of the blocks; None where something else reads them."""
        ends = {name: value for value, name in self.images[-1].items()}
        after = [node for node in self.blocks[-1] if not any(name in ends for name in node.outputs)]
        columns = {node.outputs[0]: node for node in after if self._is_column(node)}
        free = {*self.picks, *(name for node in after for name in node.outputs)}
        read = [name for node in after if node.outputs[0] not in columns for name in node.inputs]
        finals: dict[str, str] = {}
        for name in (*read, *self.graph.results()):
            if name in self.levels and name not in free:
                if name not in ends:
                    return None
                finals[name] = ends[name]
        initial = self._initial([(node.inputs[0], node.inputs[1]) for node in columns.values()])
        if initial is None:
            return None
        rest = [node for node in self.graph.nodes if self._stays(node, after) and node.outputs[0] not in columns]
        return roll(
            Loop(self.graph, self.picks, self.length, self.levels, self.blocks[1], self.states, initial, columns, finals, rest)
        )

    def _stays(self, node: Node, after: Sequence[Node]) -> bool:
        return node in after or node.outputs[0] in self.picks or not any(name in self.levels for name in node.outputs)

    def _is_column(self, node: Node) -> bool:
        """Whether `node` joins one value of every frame, in order."""
        if node.op != "Concat" or len(node.inputs) != self.length or self.levels.get(node.inputs[1]) != 1:
            return False
        first, value, *rest = node.inputs
        return self.levels.get(first, 0) == 0 and all(self.value(value, t) == name for t, name in enumerate(rest, 2))

    def _initial(self, columns: Sequence[tuple[str, str]]) -> dict[str, str] | dict[str, Array] | None:
        """What each state begins with: what block 0 reads; or, where folding has changed that block, what makes block 1 give
        the values of block 0. columns: pairs of values of both that have to be the same."""
        pairs = [*self.states.items(), *columns]
        begun: dict[str, str] = {}
        image = self._in_order(0, begun)
        if image is not None and begun.keys() == self.states.keys():
            found = ((old, image.get(new) or self.names.get(replace(self.picks[new], at=0))) for old, new in pairs)
            if all(old == same for old, same in found):
                return begun
        return next((values for values in self._candidates() if self._proven(values, pairs)), None)

    def _candidates(self) -> Iterator[dict[str, Array]]:
        """Zeros; then constants that block 0 reads as block 1 reads a state."""
        types = {name: self.graph.types[name] for name in self.states}
        zeros = {name: np.zeros(type_.shape, type_.dtype.numpy) for name, type_ in types.items()}
        yield zeros
        places = [(node.op, k, name) for node in self.blocks[1] for k, name in enumerate(node.inputs) if name in types]
        seen: dict[str, Array] = {}
        for op, k, name in places:
            for node in self.blocks[0]:
                array = self.graph.const(node.inputs[k]) if node.op == op and k < len(node.inputs) else None
                if array is not None and TensorType.of(array) == types[name]:
                    seen.setdefault(name, array)
        if seen:
            yield {**zeros, **seen}

    def _proven(self, initial: Mapping[str, Array], pairs: Sequence[tuple[str, str]]) -> bool:
        """Whether block 1, on these states and the frames of block 0, gives what block 0 gives."""
        rng = np.random.default_rng(0)
        tracks: dict[tuple[str, int], Array] = {}
        given: dict[str, Array] = {}
        for node in (*self.blocks[0], *self.blocks[1]):
            for name in node.inputs:
                if (
                    name in given
                    or not name
                    or name in self.graph.constants
                    or (name in self.levels and name not in self.picks)
                ):
                    continue
                pick = self.picks.get(name)
                if pick is None:
                    given[name] = _random(self.graph.types[name], rng)
                    continue
                frame = self.names.get(replace(pick, kept=False), name)
                if pick.track not in tracks:
                    shape = [n for d, n in enumerate(self.graph.types[pick.track[0]].shape) if d != pick.track[1]]
                    tracks[pick.track] = _random(self.graph.types[frame].with_shape(tuple(shape)), rng)
                given[name] = np.expand_dims(tracks[pick.track], pick.track[1]) if pick.kept else tracks[pick.track]
        try:
            with np.errstate(all="ignore"):
                zero = evaluate_all(self.graph.replace(nodes=tuple(self.blocks[0])), given)
                one = evaluate_all(self.graph.replace(nodes=tuple(self.blocks[1])), {**given, **initial})
        except (StreamRNNError, ArithmeticError, LookupError, TypeError, ValueError):
            return False  # random numbers are not what these nodes take
        return all(
            old in zero and new in one and np.allclose(zero[old], one[new], rtol=1e-4, atol=1e-5, equal_nan=False)
            for old, new in pairs
        )


def _random(type_: TensorType, rng: np.random.Generator) -> Array:
    kind = type_.dtype.numpy.kind
    values = rng.standard_normal(type_.shape) if kind == "f" else rng.integers(0, 2, type_.shape)
    return np.asarray(values, np.float64 if kind == "f" else type_.dtype.numpy)
