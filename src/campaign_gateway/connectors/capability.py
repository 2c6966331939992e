"""What all capabilities of `contract` have in common: how `isinstance` finds them."""

from typing import Protocol

_known: dict[tuple[type, type], bool] = {}


class Capability(type(Protocol)):  # type: ignore[misc] # The type of protocols has no public name.
    """The type of a protocol that a class of connectors has or lacks.

    Each class is checked once. `typing` would look for every member at every check, which takes
    5 % of a mutation.
    """

    def __instancecheck__(cls, instance: object) -> bool:
        pair = cls, type(instance)
        if pair not in _known:
            _known[pair] = super().__instancecheck__(instance)
        return _known[pair]
