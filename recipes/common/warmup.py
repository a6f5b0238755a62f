"""Warm-up requests, which TF Serving runs before it lets a new version answer.

The first requests to a model are slow, and the first ones after a new version too. TF
Serving sends itself the requests of assets.extra/tf_serving_warmup_requests, a TFRecord of
`PredictionLog`s, while the version before still answers. A request that fails keeps the
version from being served at all, so examples are held against their specs here.
"""

from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2


def write(saved_model: Path, signatures: dict) -> None:
    """Writes one request for each signature into the SavedModel.

    Args:
        signatures: As `publishing.publish` takes them.

    Raises:
        ValueError: If an example is not what its signature takes.
    """
    folder = saved_model / "assets.extra"
    folder.mkdir()
    with tf.io.TFRecordWriter(str(folder / "tf_serving_warmup_requests")) as file:
        for name, (_, specs, example) in signatures.items():
            file.write(request(name, specs, example).SerializeToString())


def request(signature: str, specs: dict, example: dict) -> prediction_log_pb2.PredictionLog:
    if example.keys() != specs.keys():
        raise ValueError(
            f"The example for {signature!r} has {sorted(example)}, its inputs are {sorted(specs)}."
        )
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.signature_name = signature
    for name, spec in specs.items():
        value = tf.convert_to_tensor(example[name], spec.dtype)
        if not spec.shape.is_compatible_with(value.shape):
            raise ValueError(
                f"The example for {signature!r} has {name} of shape {value.shape}, "
                f"expected {spec.shape}."
            )
        log.predict_log.request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return log
