"""Which items of a step can be computed for several steps before the next one begins: loop distribution."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush


def in_groups(read: Sequence[set[int]], written: Sequence[set[int]], carried: Sequence[set[int]]) -> list[list[int]]:
    """The items 0 .. n - 1 of a step in groups: each group may run for all steps before the next one does.

    read, written  what an item takes and leaves of its own step
    carried        what it hands from step to step: whoever has the same in common is in one group, with all that lies between

    Source: Kennedy and McKinley, Loop distribution with arbitrary control flow, 1990: the groups are the strongly connected
    components of the graph of dependences, in topological order (the earliest item first).
    """
    n = len(read)
    following: list[set[int]] = [set() for _ in range(n)]
    _follow_steps(read, written, following)
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for i in range(n):
        for b in carried[i]:
            if b in last:
                following[last[b]].add(i)
            first.setdefault(b, i)
            last[b] = i
    for b, i in last.items():
        following[i].add(first[b])
    return _sorted(_components(following), following)


def _follow_steps(read: Sequence[set[int]], written: Sequence[set[int]], following: list[set[int]]) -> None:
    """Within a step: a value is read after it is written, and written again after all have read it."""
    writer: dict[int, int] = {}
    readers: dict[int, list[int]] = {}
    for i in range(len(read)):
        for b in read[i] | written[i]:
            if b in writer:
                following[writer[b]].add(i)
        for b in written[i]:
            for reader in readers.pop(b, ()):
                if reader != i:
                    following[reader].add(i)
            writer[b] = i
        for b in read[i] - written[i]:
            readers.setdefault(b, []).append(i)


def _postorder(following: Sequence[set[int]], starts: Sequence[int], seen: set[int]) -> list[int]:
    """What can be reached from `starts` and was not seen, each after all that it reaches."""
    found: list[int] = []
    for start in starts:
        if start in seen:
            continue
        seen.add(start)
        path = [(start, iter(sorted(following[start])))]
        while path:
            node, rest = path[-1]
            for nearest in rest:
                if nearest not in seen:
                    seen.add(nearest)
                    path.append((nearest, iter(sorted(following[nearest]))))
                    break
            else:
                found.append(node)
                path.pop()
    return found


def _components(following: Sequence[set[int]]) -> list[list[int]]:
    """Strongly connected components (Kosaraju), the members of each in ascending order."""
    before: list[set[int]] = [set() for _ in following]
    for i, others in enumerate(following):
        for j in others:
            before[j].add(i)
    seen: set[int] = set()
    order = _postorder(following, range(len(following)), set())
    return [sorted(_postorder(before, [i], seen)) for i in reversed(order) if i not in seen]


def _sorted(components: list[list[int]], following: Sequence[set[int]]) -> list[list[int]]:
    """Topological order; of components that are ready the one with the earliest item comes first."""
    of = {i: c for c, members in enumerate(components) for i in members}
    after = [{of[j] for i in members for j in following[i]} - {c} for c, members in enumerate(components)]
    waits = [0] * len(components)
    for others in after:
        for c in others:
            waits[c] += 1
    ready = [(members[0], c) for c, members in enumerate(components) if not waits[c]]
    heapify(ready)
    found = []
    while ready:
        _, c = heappop(ready)
        found.append(components[c])
        for other in after[c]:
            waits[other] -= 1
            if not waits[other]:
                heappush(ready, (components[other][0], other))
    return found
