"""Serves SavedModels where there is no Docker, with KServe's server.

    pip install -r serving/requirements.txt
    python serving/kserve_server.py saved_models
    python serving/kserve_server.py saved_models/pos_tagging    # this model alone

Each folder in `saved_models` is a model of that name; its newest version answers, from its
first request on, and if that cannot be loaded, the one before. The protocol is KServe's V1,
{"instances": …} to {"predictions": …}; as in TF Serving there is also {"inputs": …} to
{"outputs": …}, and a "signature_name" with either. The log has a line for each request.
"""

import argparse
import asyncio
import base64
import logging
import threading
import warnings
from pathlib import Path

import kserve
import query
import tensorflow as tf
from kserve.errors import InvalidInput, ModelNotFound
from query import versions

log = logging.getLogger("kserve")


class SavedModel(kserve.Model):
    """The newest version in a folder that can be loaded, or the SavedModel that the folder is.

    It is ready once there is one.
    """

    def __init__(self, folder: Path):
        super().__init__(folder.parent.name if folder.name.isdigit() else folder.name)
        self.folder, self.version, self.loading = folder, None, threading.Lock()
        self.exported = None  # when, for a deleted version's number may come again
        self.broken = set()  # so that a request does not wait for what has failed before
        self.load()

    def load(self) -> bool:
        with self.loading:
            for version in versions(self.folder):
                if self.answers(version) or self.replaced_by(version):
                    break
                if version == self.version:  # written over, and not whole yet: that in memory stays
                    break
        self.ready = self.version is not None
        return self.ready

    def answers(self, version: Path) -> bool:
        """Whether it is `version` that is loaded."""
        try:
            return (version, exported(version)) == (self.version, self.exported)
        except (FileNotFoundError, ValueError):  # deleted meanwhile
            return False

    def replaced_by(self, version: Path) -> bool:
        """Whether `version` answers from now on: if it can be loaded."""
        changed = None
        try:
            changed = version, exported(version)
            if changed in self.broken:
                return False
            self.model = tf.saved_model.load(version)
            self.version, self.exported = changed
        except Exception as error:  # whatever half a file can cause
            self.broken.add(changed)
            (reason, *_) = str(error).splitlines() or [type(error).__name__]
            log.error("%s cannot be loaded, and the one before stays: %s", version, reason)
            return False
        return True

    async def predict(self, payload: dict, headers=None, response_headers=None) -> dict:
        if not isinstance(payload, dict):
            raise InvalidInput(
                "A request is a JSON object, its Content-Type application/json, by KServe's "
                f"protocol V1: /v1/models/{self.name}:predict."
            )
        return await asyncio.to_thread(self.answer, payload)  # others are answered meanwhile

    def answer(self, payload: dict) -> dict:
        self.load()
        signatures = self.model.signatures
        name = payload.get("signature_name", "serving_default")
        if not isinstance(name, str) or name not in signatures:
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


def exported(version: Path) -> int:
    """When its newest file was written."""
    return max(path.stat().st_mtime_ns for path in version.rglob("*"))


def named_inputs(payload: dict, specs: dict) -> dict:
    """A request's inputs as {name: the values of all rows}."""
    if ("inputs" in payload) == ("instances" in payload):
        raise InvalidInput('A request has "instances" or "inputs".')
    given = payload.get("inputs", payload.get("instances"))
    if "instances" in payload and not isinstance(given, list):
        raise InvalidInput('"instances" must be a list with one entry for each row.')
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
        found = query.tensor(from_base64(value), spec.dtype)
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
        return {"b64": base64.b64encode(value).decode()} if b64 else value.decode(errors="replace")
    return value


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], parents=[kserve.model_server.parser]
    )
    parser.add_argument(
        "saved_models", type=Path, help="the folder of the models' folders, or that of one model"
    )
    parser.set_defaults(http_port=8501)  # TF Serving's, where the client asks
    args = parser.parse_args()
    kserve.logging.configure_logging()  # before TensorFlow has anything to say
    models = [SavedModel(folder) for folder in model_folders(args.saved_models.resolve())]
    models = [model for model in models if model.ready]
    if not models:
        raise SystemExit(f"There is no SavedModel in {args.saved_models}; a recipe exports one.")
    server = kserve.ModelServer(http_port=args.http_port, enable_grpc=False)
    log.addFilter(is_news)
    logging.getLogger("kserve.trace").disabled = True  # two lines of timings for each request
    warnings.filterwarnings("ignore", module="fastapi")  # of how KServe uses it
    server.start(models)


def model_folders(path: Path) -> list[Path]:
    """`path` if it is a SavedModel or a folder of versions, else those in it that are."""
    return [path] if versions(path) else [f for f in sorted(path.glob("*/")) if versions(f)]


def is_news(record: logging.LogRecord) -> bool:
    """Not a traceback of what was wrong with a request: its line in the log has the status."""
    return not (record.exc_info and isinstance(record.exc_info[1], (InvalidInput, ModelNotFound)))


if __name__ == "__main__":
    main()
