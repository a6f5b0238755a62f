"""What a forecaster is for ONNX and LiteRT: the model, and beside it what its numbers mean."""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from recipes.common.other_runtimes import PortableModel
from serving import onnx_query


def numeric(
    model: keras.Model, mean, std, levels: tuple[float, ...], channels: list[str], example: str
) -> PortableModel:
    """`example` is a window as CSV."""
    about = {"task": "forecasting", "channels": channels, "example": example}
    numbers = {"mean": mean, "std": std, "levels": levels}
    about |= {name: np.array(x).tolist() for name, x in numbers.items()}
    about["lookback"] = model.input_shape[1]
    return PortableModel(lambda: {"model": model}, about, {}, ForecasterAsModel)


class ForecasterAsModel(NamedTuple):
    page: onnx_query.Forecaster

    def predict_on_batch(self, window: tf.Tensor) -> np.ndarray:
        """The forecast that is the median, or what is nearest to it."""
        found, levels = self.page.standardized(window.numpy()), self.page.levels
        return found[:, np.abs(np.array(levels) - 0.5).argmin()] if levels else found
