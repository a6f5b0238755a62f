"""TensorFlow without its log."""

import contextlib
import os
import sys
from collections.abc import Iterator


def tensorflow():
    """The module, whose import takes seconds: arguments are read before.

    Its own lines are for those who ask: TF_CPP_MIN_LOG_LEVEL=0. What fails is an exception, too.
    """
    asked = "TF_CPP_MIN_LOG_LEVEL" in os.environ
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with contextlib.nullcontext() if asked else no_stderr():  # some come before the level counts
        import tensorflow as tf

        tf.config.list_physical_devices()
    return tf


@contextlib.contextmanager
def no_stderr() -> Iterator[None]:
    """Inside, nothing is written to the process's standard error, not by C++ either."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
