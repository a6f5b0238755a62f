"""What runs a recurrence in LiteRT: its operation for all steps of an LSTM, else a loop.

This module is the place that `layers.recurrence.elsewhere` asks while a model is exported.
"""

from layers.exchange.to_litert import fused
from layers.recurrence import loop, plans


def plan(call: plans.Call) -> plans.Plan:
    """What runs a cell over time, in one direction."""
    execute = loop.recurrence(call.cell, call.training, call.return_sequences)
    if fused.covers(call):
        execute = fused.recurrence(call.cell, call.return_sequences, execute)
    return plans.Plan("litert", lambda batch_first: batch_first(execute, False), "")


def both_directions(*_) -> None:
    """There is nothing for both: each direction is run by itself."""
