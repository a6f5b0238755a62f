"""What runs a recurrence in LiteRT: its operation for all steps of an LSTM, else a loop.

This module is the place that `layers.recurrence.elsewhere` asks while a model is exported;
`calibrated`, where examples run through the model then.
"""

import types

from layers.exchange.to_litert import fused
from layers.recurrence import loop, plans

LONGEST = 256  # steps that are written out one by one


def plan(call: plans.Call, unroll: bool = False) -> plans.Plan:
    """What runs a cell over time, in one direction."""
    execute = loop.recurrence(call.cell, call.training, call.return_sequences, unroll=unroll)
    if fused.covers(call):
        execute = fused.recurrence(call.cell, call.return_sequences, execute, unroll)
    return plans.Plan("litert", lambda batch_first: batch_first(execute, False), "")


def plan_calibrated(call: plans.Call) -> plans.Plan:
    """The same without a loop of known length, on which LiteRT's calibration crashes.

    See https://github.com/tensorflow/tensorflow/issues/75140.
    """
    length = call.given.inputs.shape[1]
    if length and length > LONGEST and not fused.covers(call):
        raise ValueError(
            f"`export_litert` with quantize='int8' takes a loop of at most {LONGEST} steps, got "
            f"{length}, where their number is fixed. Leave it open: keras.Input((None, features))."
        )
    return plan(call, unroll=length is not None)


def both_directions(*_) -> None:
    """There is nothing for both: each direction is run by itself."""


calibrated = types.SimpleNamespace(plan=plan_calibrated, both_directions=both_directions)
