"""How fast an exported speech recognizer hears, on one core.

    python benchmarks/hearing.py saved_models/speech/1

Prints the median and the 99th percentile of the time of an answer, and how many times as fast
that is as the sound was spoken: for whole recordings, and for a stream, where the model has
one. The sound is noise: what is said changes little about the time.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from timing import by_turns, machine

RATE = 8000  # samples a second
WHOLE, CHUNKS = [0.5, 10.0], [0.02, 0.1, 0.5]  # seconds
FIRST, REPEATS = 20, 300  # the first ones do not count


def noise(seconds: float) -> tf.Tensor:
    samples = np.random.default_rng(0).normal(size=(1, round(seconds * RATE)))
    return tf.constant(samples * 0.1, tf.float32)


def show(what: str, seconds: float, answer: Callable) -> None:
    """Prints a line about `answer`, called REPEATS times for a sound of `seconds`."""
    times = by_turns({what: answer}, [()] * (FIRST + REPEATS))[what][FIRST:]
    median, slow = np.percentile(times, [50, 99])
    factor = seconds * 1e3 / median
    print(f"{what}, {seconds:4} s: {median:6.2f} ms, {slow:6.2f} for 1 in 100, {factor:4.0f} times")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", type=Path, help="the folder of a version that speech.py exported")
    args = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    served = tf.saved_model.load(args.model).signatures
    print(f"{args.model}, one core of {machine()}")
    rate = tf.constant(RATE)
    for seconds in WHOLE:
        samples = noise(seconds)
        given = {"samples": samples, "lengths": tf.constant([samples.shape[1]]), "rate": rate}
        show("whole ", seconds, lambda given=given: served["serving_default"](**given))
    if "stream" not in served:
        return
    for seconds in CHUNKS:
        states = dict(served["initial_state"](batch_size=tf.constant(1)))
        chunk = noise(seconds)

        def next_chunk(states=states, chunk=chunk):
            answer = served["stream"](chunk=chunk, rate=rate, **states)
            states.update({name: answer[name] for name in states})
            states["heard_text"] = tf.constant([""])  # an hour's text would be in the way

        show("stream", seconds, next_chunk)


if __name__ == "__main__":
    main()
