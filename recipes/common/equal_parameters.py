"""Layers of different kinds are compared at equal size: what units make them so."""

from collections.abc import Callable


def units(count: Callable[[int], int], parameters: int) -> int:
    """With how many units a model, of `count(units)` parameters, comes closest to `parameters`."""
    low, high = 1, 2
    while count(high) < parameters:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if count(middle) >= parameters else (middle, high)
    return min(low, high, key=lambda units: abs(count(units) - parameters))
