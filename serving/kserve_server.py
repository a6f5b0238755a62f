"""Serves SavedModels where there is no Docker, with KServe's server.

    pip install -r serving/requirements.txt
    python serving/kserve_server.py saved_models --http_port 8501

Each folder in `saved_models` is a model of that name; its newest version answers, from its
first request on. The protocol is KServe's V1, {"instances": …} to {"predictions": …}; as in
TF Serving there is also {"inputs": …} to {"outputs": …}, and a "signature_name" with either.
"""

import argparse
import asyncio
import base64
import threading
from pathlib import Path

import kserve
import tensorflow as tf
from kserve.errors import InvalidInput
from query import newest_version


class SavedModel(kserve.Model):
    """The newest version in a folder."""

    def __init__(self, folder: Path):
        super().__init__(folder.name)
        self.folder, self.version, self.loading = folder, None, threading.Lock()
        self.load()

    def load(self) -> bool:
        with self.loading:
            newest = newest_version(self.folder)
            if newest != self.version:
                self.model, self.version = tf.saved_model.load(newest), newest
        self.ready = True
        return True

    async def predict(self, payload: dict, headers=None, response_headers=None) -> dict:
        if not isinstance(payload, dict):
            raise InvalidInput("A request is a JSON object, its Content-Type application/json.")
        return await asyncio.to_thread(self.answer, payload)  # others are answered meanwhile

    def answer(self, payload: dict) -> dict:
        self.load()
        signatures = self.model.signatures
        name = payload.get("signature_name", "serving_default")
        if name not in signatures:
            raise InvalidInput(f"{self.name} has no signature {name!r}, but {list(signatures)}")
        specs = signatures[name].structured_input_signature[1]
        given = named_inputs(payload, specs)
        tensors = {name: tensor(name, given[name], spec) for name, spec in specs.items()}
        try:
            outputs = signatures[name](**tensors)
        except tf.errors.InvalidArgumentError as error:
            raise InvalidInput(error.message) from None
        columns = {name: plain(found.numpy().tolist(), name) for name, found in outputs.items()}
        (*_, only) = columns.values()
        if "inputs" in payload:
            return {"outputs": only if len(columns) == 1 else columns}
        rows = [dict(zip(columns, row)) for row in zip(*columns.values())]
        return {"predictions": only if len(columns) == 1 else rows}


def named_inputs(payload: dict, specs: dict) -> dict:
    """A request's inputs as {name: the values of all rows}."""
    if ("inputs" in payload) == ("instances" in payload):
        raise InvalidInput('A request has "instances" or "inputs".')
    given = payload.get("inputs", payload.get("instances"))
    if "instances" in payload and all(is_named(row) for row in given):
        if any(row.keys() != given[0].keys() for row in given):
            raise InvalidInput("All instances must have the same inputs.")
        given = {name: [row[name] for row in given] for name in given[0]} if given else given
    if not is_named(given):
        given = dict.fromkeys(specs, given) if len(specs) == 1 else {}
    if given.keys() != specs.keys():
        raise InvalidInput(f"The inputs are {sorted(specs)}, got {sorted(given)}")
    return given


def is_named(value) -> bool:
    return isinstance(value, dict) and value.keys() != {"b64"}


def tensor(name: str, value, spec: tf.TensorSpec) -> tf.Tensor:
    try:
        found = tf.convert_to_tensor(from_base64(value), spec.dtype)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{name}: {error}") from None
    if not spec.shape.is_compatible_with(found.shape):
        raise InvalidInput(f"{name} has shape {found.shape}, expected {spec.shape}")
    return found


def from_base64(value):
    """`value` with bytes for every {"b64": …} in it."""
    if isinstance(value, list):
        return [from_base64(v) for v in value]
    if isinstance(value, dict) and value.keys() == {"b64"}:
        return base64.b64decode(value["b64"], validate=True)
    return value


def plain(value, name: str):
    """`value` as JSON has it: bytes as text, or as {"b64": …} if the name ends in _bytes."""
    if isinstance(value, list):
        return [plain(v, name) for v in value]
    if isinstance(value, bytes):
        b64 = name.endswith("_bytes")
        return {"b64": base64.b64encode(value).decode()} if b64 else value.decode()
    return value


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], parents=[kserve.model_server.parser]
    )
    parser.add_argument("saved_models", type=Path, help="the folder of the models' folders")
    args = parser.parse_args()
    models = [SavedModel(f) for f in sorted(args.saved_models.glob("*/")) if any(f.glob("[0-9]*"))]
    if not models:
        raise SystemExit(f"There is no SavedModel in {args.saved_models}; a recipe exports one.")
    kserve.ModelServer(http_port=args.http_port, enable_grpc=False).start(models)


if __name__ == "__main__":
    main()
