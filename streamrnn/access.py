"""What items of a plan read and write, also those inside of branches and loops, and items with their places elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from streamrnn.ir.lowering import Arg, Place, Skip
from streamrnn.plan import Call, Copy, Item, Loop, Repeat, When


def flat(items: Iterable[Item]) -> Iterator[Item]:
    """All items, also those inside of branches and loops."""
    for item in items:
        yield item
        if isinstance(item, When | Repeat):
            yield from flat(item.calls)


def read(item: Item) -> set[int]:
    """Buffers that an item may read."""
    if isinstance(item, Copy):
        return {item.source.buffer}
    if isinstance(item, Loop):
        return {place.buffer for place, _ in item.inputs}
    if isinstance(item, Call):
        return {arg.buffer for arg in item.args if isinstance(arg, Place)}
    own = (item.condition,) if isinstance(item, When) else (item.count, item.condition)
    return {place.buffer for place in own if place is not None}.union(*(read(inner) for inner in item.calls))


def written(item: Item) -> set[int]:
    """Buffers that an item may write: a kernel does not say which."""
    if isinstance(item, Copy):
        return {item.target.buffer}
    if isinstance(item, Loop):
        return {item.output.buffer}
    if isinstance(item, Call):
        return read(item)
    return set().union(*(written(inner) for inner in item.calls))


def moved(item: Item, to: Callable[[Place], Place]) -> Item:
    """An item with each place put elsewhere, and without filler."""

    def arg(value: Arg) -> Arg:
        return to(value) if isinstance(value, Place) else 0 if isinstance(value, Skip) else value

    def maybe(place: Place | None) -> Place | None:
        return None if place is None else to(place)

    if isinstance(item, Call):
        return replace(item, args=tuple(arg(value) for value in item.args))
    if isinstance(item, Loop):
        return replace(item, inputs=tuple((to(place), s) for place, s in item.inputs), output=to(item.output))
    if isinstance(item, Copy):
        return replace(item, source=to(item.source), target=to(item.target))
    calls = tuple(moved(inner, to) for inner in item.calls)
    if isinstance(item, When):
        return replace(item, condition=to(item.condition), calls=calls)
    first, count, condition = arg(item.first), maybe(item.count), maybe(item.condition)
    return replace(item, first=first, count=count, condition=condition, calls=calls)
