"""Asks a model server, TF Serving or KServe's.

    python serving/client.py sentiment "The film was good, not bad." "The film was bad."
    python serving/client.py pos_tagging "I saw a saw." --grpc
    python serving/client.py pos_tagging "I saw a saw" --signature words --split
    python serving/client.py forecasting window.csv
    python serving/client.py sentiment --stream < review.txt
    python serving/client.py translation "Ein Hund läuft." --as-written
    python serving/client.py speech --wav recording.wav
    python serving/client.py speech --wav recording.wav --stream

A signature that takes words apart from each other, such as `words` or `analogies`, needs
--split. With --stream the model reads line after line from standard input, and after each says what
it thinks so far; with --as-written it shows a translation growing, a piece of a word at a time. The
server keeps nothing: the state of the recurrence goes back and forth. Of a WAV file it sends the
samples, with --stream a tenth of a second at a time; --microphone sends what is heard now (pip
install sounddevice).
Over REST it needs nothing but Python; over gRPC, tensorflow-serving-api.
"""

import argparse
import contextlib
import http.client
import json
import sys
import urllib.parse
from collections.abc import Callable, Iterable
from pathlib import Path

import sounds
import text

MOST_WRITTEN = 500  # pieces of words


class Rest:
    """The REST API, by columns: {"inputs": …} goes, {"outputs": …} comes."""

    default_port = 8501

    def __init__(self, host: str, port: int, timeout: float):
        self.address, self.timeout = f"http://{host}:{port}", timeout
        self.connection = http.client.HTTPConnection(host, port, timeout=timeout)

    def ask(self, model: str, signature: str, inputs) -> dict[str, list]:
        """The outputs by name.

        Args:
            inputs: {name: value}, or the value alone where there is one input.
        """
        body = json.dumps({"signature_name": signature, "inputs": inputs})
        path = f"/v1/models/{urllib.parse.quote(model)}:predict"
        try:
            try:
                status, answer = self.post(path, body)
            except ConnectionError:  # servers close what is idle; a request changes nothing there
                self.connection.close()
                status, answer = self.post(path, body)
        except TimeoutError:
            raise late(self.address, self.timeout) from None
        except OSError as error:
            raise absent(self.address, error) from None
        except (http.client.HTTPException, ValueError):
            raise SystemExit(f"What answers at {self.address} speaks no REST for models.") from None
        if status != 200:
            raise refused(answer.get("error", answer))
        outputs = answer["outputs"]
        return outputs if isinstance(outputs, dict) else {"outputs": outputs}  # one has no name

    def post(self, path: str, body: str) -> tuple[int, dict]:
        self.connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = self.connection.getresponse()
        return response.status, json.loads(response.read())


class Grpc:
    """TF Serving's gRPC API. What a signature takes and gives, the server is asked first."""

    default_port = 8500

    def __init__(self, host: str, port: int, timeout: float):
        try:
            import grpc
            from tensorflow_serving.apis import prediction_service_pb2_grpc
        except ImportError as error:
            raise SystemExit(
                f"--grpc: there is no {error.name}; pip install grpcio tensorflow-serving-api"
            ) from None
        self.address, self.timeout = f"{host}:{port}", timeout
        channel = grpc.insecure_channel(self.address)
        self.service = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.signatures = {}  # by model

    def ask(self, model: str, signature: str, inputs) -> dict[str, list]:
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        if model not in self.signatures:
            self.signatures[model] = self.signatures_of(model)
        if signature not in self.signatures[model]:
            raise refused(f"{model} has no signature {signature!r}")
        specs = self.signatures[model][signature].inputs
        if not isinstance(inputs, dict):
            inputs = dict.fromkeys(specs, inputs)
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = model, signature
        for name, value in inputs.items():
            try:
                tensor = tf.make_tensor_proto(value, specs[name].dtype)
            except (TypeError, ValueError) as error:
                raise SystemExit(f"{name}: {error}") from None
            request.inputs[name].CopyFrom(tensor)
        response = self.call("Predict", request)
        return {name: tf.make_ndarray(t).tolist() for name, t in response.outputs.items()}

    def signatures_of(self, model: str) -> dict:
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = model
        found = get_model_metadata_pb2.SignatureDefMap()
        self.call("GetModelMetadata", request).metadata["signature_def"].Unpack(found)
        return found.signature_def

    def call(self, method: str, request):
        import grpc

        try:
            return getattr(self.service, method)(request, timeout=self.timeout)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAVAILABLE:
                raise absent(self.address, error.details()) from None
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise late(self.address, self.timeout) from None
            raise refused(error.details()) from None


# --- What can go wrong -------------------------------------------------------------------


def absent(address: str, why) -> SystemExit:
    return SystemExit(
        f"No model server answers at {address} ({why}). docs/serving.md says how to start one."
    )


def late(address: str, timeout: float) -> SystemExit:
    return SystemExit(
        f"{address} gives no answer within {timeout:g} seconds; --timeout waits longer."
    )


def refused(why) -> SystemExit:
    return SystemExit(f"The server refuses: {why}")


# --- Asking ------------------------------------------------------------------------------


def stream(ask: Callable, chunks: Iterable[str]) -> None:
    """Shows the answer after each chunk of one text, the state kept here in between."""
    state = ask("initial_state", {"batch_size": 1})
    for chunk in chunks:
        answer = ask("stream", {"chunk": [chunk], **state})
        state = {name: answer.pop(name) for name in state}
        text.show([chunk.rstrip("\n")], answer)


def show_as_written(ask: Callable, sentences: list[str]) -> None:
    """Shows what is written for each sentence, a piece in each request, the state kept here."""
    for sentence in sentences:
        given = {"sentences": [sentence]}
        state, ended = ask("start", given), False
        for _ in range(MOST_WRITTEN):
            answer = ask("next", given | state)
            state, ended = {name: answer[name] for name in state}, answer["ended"][0]
            if ended:
                break
            print(text.cell(answer["text"][0]), end="", flush=True)
        print("" if ended else " …")


def listen(ask: Callable, chunks: Iterable[list[float]], rate: int) -> None:
    """Shows what has been heard so far, whenever that has changed, until the end or Ctrl-C."""
    state, said = ask("initial_state", {"batch_size": 1}), ""
    with contextlib.suppress(KeyboardInterrupt):
        for chunk in chunks:
            answer = ask("stream", {"chunk": [chunk], "rate": rate, **state})
            state = {name: answer[name] for name in state}
            heard = text.cell(state["heard_text"][0])
            if heard != said:
                said = heard
                print(said, flush=True)
    if not said:
        print("(Nothing was heard.)")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="its name on the server: sentiment, pos_tagging, …")
    parser.add_argument("inputs", nargs="*", help="texts, or one CSV file: a row for each step")
    default = "serving_default"
    parser.add_argument("--signature", default=default, help=f"default: {default}")
    parser.add_argument("--split", action="store_true", help="texts are split into words at spaces")
    parser.add_argument("--stream", action="store_true", help="read one text line after line")
    parser.add_argument("--as-written", action="store_true", help="show a translation growing")
    parser.add_argument("--wav", type=Path, metavar="FILE", help="a recording, of 16 bits")
    parser.add_argument("--microphone", action="store_true", help="listen, until Ctrl-C")
    parser.add_argument("--grpc", action="store_true", help="gRPC in place of REST")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, help="default: 8501, for gRPC 8500")
    parser.add_argument("--timeout", type=float, default=10, help="seconds; default: 10")
    args = parser.parse_args()
    sound = args.wav or args.microphone
    if (args.wav and args.microphone) or (sound and args.inputs):
        parser.error("give one of texts, --wav and --microphone")
    if not sound and args.stream == bool(args.inputs):
        parser.error("give texts, a CSV file, --wav FILE, --microphone, or --stream")
    if args.stream and (args.split or args.signature != default):
        parser.error("--stream has signatures of its own")
    if args.as_written and (args.stream or args.split or args.signature != default):
        parser.error("--as-written has signatures of its own, and takes sentences")

    if sound and (args.as_written or args.split):
        parser.error("--as-written and --split are of texts")
    if args.microphone and args.signature != default:
        parser.error("--microphone has signatures of its own")

    api = Grpc if args.grpc else Rest
    server = api(args.host, args.port or api.default_port, args.timeout)

    def ask(signature, inputs):
        return server.ask(args.model, signature, inputs)

    if args.microphone:
        return listen(ask, sounds.microphone(sounds.RATE), sounds.RATE)
    if args.wav and args.stream:
        return listen(ask, sounds.pieces(args.wav), sounds.RATE)
    if args.wav:
        samples, rate = sounds.read(args.wav)
        inputs = {"samples": [samples], "lengths": [len(samples)], "rate": rate}
        return text.show([str(args.wav)], ask(args.signature, inputs))
    if args.stream:
        return stream(ask, sys.stdin)
    if args.as_written:
        return show_as_written(ask, args.inputs)
    inputs = args.inputs
    if inputs[0].endswith(".csv"):
        if len(inputs) > 1:
            parser.error(f"one CSV file at a time, got {inputs}")
        inputs = [text.numbers(Path(inputs[0]))]
    elif args.split:
        inputs = text.words(inputs)
    text.show(args.inputs, ask(args.signature, inputs))


if __name__ == "__main__":
    main()
