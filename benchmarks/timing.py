"""What the benchmarks share: times of candidates that take turns, and where they were taken."""

import os
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path


def by_turns(
    candidates: dict[str, Callable], rounds: Iterable[tuple], rehearse: bool = False
) -> dict[str, list[float]]:
    """Milliseconds of each candidate in each round: the machine's noise falls on all alike.

    Args:
        rounds: For each round, the arguments that all candidates are called with.
        rehearse: Whether each is called once more before, untimed, for the threads of the one
            before may still be spinning.
    """
    times = {name: [] for name in candidates}
    for given in rounds:
        for name, run in candidates.items():
            if rehearse:
                run(*given)
            start = time.perf_counter()
            run(*given)
            times[name].append((time.perf_counter() - start) * 1e3)
    return times


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def machine() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{line.partition(': ')[2]}, {cores()} cores"
    return f"{platform.processor()}, {cores()} cores"
