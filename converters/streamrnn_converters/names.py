"""Names that nothing else has."""

from __future__ import annotations

from collections.abc import Iterable


class Names:
    """A set of taken names that gives out new ones."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._next: dict[str, int] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._taken

    def take(self, name: str) -> None:
        """Reserve `name`, taken or not."""
        self._taken.add(name)

    def fresh(self, base: str) -> str:
        """`base` where it is free, else `base_1`, `base_2`, ...; the result is taken from now on."""
        name, n = base, self._next.get(base, 0)
        while name in self._taken:
            n += 1
            name = f"{base}_{n}"
        self._next[base] = n
        self._taken.add(name)
        return name
