"""A trained model's embeddings in a quarter of their size: whole numbers, a scale for each row."""

import keras


def quantize(model: keras.Model) -> None:
    """Stores the embeddings of `model` as int8; it can't be trained any more."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Embedding):
            layer.quantize("int8")
