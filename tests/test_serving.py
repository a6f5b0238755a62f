"""From a client over HTTP or gRPC to a SavedModel and back, for every recipe."""

import contextlib
import csv
import http.client
import importlib.util
import io
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent import futures
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import client
import grpc
import numpy as np
import pytest
import tensorflow as tf
import text
from conftest import REPOSITORY, loaded, saved_model
from google.protobuf import text_format
from small_exports import EXPORTS, LOOKBACK
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2
from test_shipped_models import SHIPPED

from recipes import forecasting

RECIPES = ["forecasting", "language_model", "pos_tagging", "sentiment", "word_embeddings"]
SENTENCES = ["I saw a saw.", "", "Ça, c'est bon 🙂", "The film was good, not bad."]
SERIES = forecasting.load("sample", None, 0)[0].values
INPUTS = {
    "forecasting": SERIES[: 2 * LOOKBACK].reshape(2, LOOKBACK, 3),
    "language_model": SENTENCES,
    "pos_tagging": SENTENCES,
    "sentiment": SENTENCES,
    "word_embeddings": ["king", "King", "unknown"],
}


# --- Models: the recipes', small and untrained, and one that streams ---------------------


def save_counter(folder):
    """Counts the bytes of a text that comes in chunks; part of its state is no text."""
    module = tf.Module()

    def begin(batch_size):
        return {
            "count": tf.zeros([batch_size], tf.int32),
            "odd_bytes": tf.fill([batch_size], b"\xff"),
        }

    def go_on(chunk, count, odd_bytes):
        count += tf.strings.length(chunk)
        return {"so_far": count, "count": count, "odd_bytes": odd_bytes + b"\xff"}

    module.begin = tf.function(begin, [tf.TensorSpec([], tf.int32, name="batch_size")])
    specs = [("chunk", tf.string), ("count", tf.int32), ("odd_bytes", tf.string)]
    module.go_on = tf.function(go_on, [tf.TensorSpec([None], t, name=n) for n, t in specs])
    signatures = {"initial_state": module.begin, "stream": module.go_on}
    tf.saved_model.save(module, folder / "1", signatures)


@pytest.fixture(scope="module")
def saved_models(exports, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved_models")
    for recipe in (*RECIPES, "sentiment_stream"):
        shutil.copytree(exports[recipe].parent, folder / recipe)
    save_counter(folder / "counter")
    return folder


def directly(version, inputs, signature="serving_default"):
    """The outputs, as lists, of the SavedModel called in this process."""
    function = loaded(version).signatures[signature]
    ((name, spec),) = function.structured_input_signature[1].items()
    outputs = function(**{name: tf.constant(inputs, spec.dtype)})
    return {name: value.numpy().tolist() for name, value in outputs.items()}


def assert_same(answer, expected):
    assert answer.keys() == expected.keys()
    for name, value in expected.items():
        if np.asarray(value).dtype.kind == "S" or isinstance(np.ravel(value)[0], bytes):
            decoded = np.vectorize(lambda b: b if isinstance(b, str) else b.decode(), otypes=[str])
            np.testing.assert_array_equal(decoded(answer[name]), decoded(value))
        else:
            np.testing.assert_allclose(answer[name], value, rtol=1e-5, atol=1e-5)


# --- Warm-up -----------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_signature_answers_its_warm_up_request(saved_models, recipe):
    version = saved_models / recipe / "1"
    signatures = loaded(version).signatures
    asked = []
    for record in tf.data.TFRecordDataset(version / "assets.extra/tf_serving_warmup_requests"):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        function = signatures[request.model_spec.signature_name]
        inputs = {name: tf.constant(tf.make_ndarray(t)) for name, t in request.inputs.items()}
        specs = function.structured_input_signature[1]
        assert {n: x.dtype for n, x in inputs.items()} == {n: s.dtype for n, s in specs.items()}
        assert all(
            len(output) == 1 + (recipe == "sentiment") for output in function(**inputs).values()
        )
        asked.append(request.model_spec.signature_name)
    assert sorted(asked) == sorted(signatures)


# --- Servers -----------------------------------------------------------------------------


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def with_kserve():
    if not importlib.util.find_spec("kserve"):
        reason = "KServe is not installed: pip install -r serving/requirements.txt"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


@pytest.fixture(scope="module")
def rest_server(saved_models, with_kserve, tmp_path_factory):
    """(where serving/kserve_server.py listens, a process of its own; its log)."""
    port, log = free_port(), tmp_path_factory.mktemp("server") / "log"
    script = REPOSITORY / "serving/kserve_server.py"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, script, saved_models, "--http_port", str(port)],
            stdout=output, stderr=output,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 120
            while not answers(port):
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield port, log
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


@pytest.fixture(scope="module")
def rest_port(rest_server):
    return rest_server[0]


def answers(port):
    try:
        with socket.create_connection(("localhost", port), timeout=1):
            return True
    except OSError:
        return False


class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    """TF Serving's gRPC service, of its own definition, on SavedModels."""

    def __init__(self, folder):
        self.versions = {path.name: path / "1" for path in folder.iterdir()}
        self.models = {name: loaded(version) for name, version in self.versions.items()}

    def known(self, request, context):
        if request.model_spec.name not in self.models:
            reason = f"Servable not found for request: Latest({request.model_spec.name})"
            context.abort(grpc.StatusCode.NOT_FOUND, reason)
        return request.model_spec.name

    def GetModelMetadata(self, request, context):
        found = saved_model(self.versions[self.known(request, context)])
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, definition in found.meta_graphs[0].signature_def.items():
            signatures.signature_def[name].CopyFrom(definition)
        response.metadata["signature_def"].Pack(signatures)
        return response

    def Predict(self, request, context):
        signatures = self.models[self.known(request, context)].signatures
        function = signatures[request.model_spec.signature_name]
        inputs = {name: tf.constant(tf.make_ndarray(t)) for name, t in request.inputs.items()}
        response = predict_pb2.PredictResponse()
        try:
            outputs = function(**inputs)
        except (TypeError, ValueError, tf.errors.InvalidArgumentError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        for name, value in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response


@pytest.fixture(scope="module")
def grpc_port(saved_models):
    server = grpc.server(futures.ThreadPoolExecutor(4))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        Service(saved_models), server
    )
    port = server.add_insecure_port("localhost:0")
    server.start()
    yield port
    server.stop(None)


def run_client(*arguments, input=""):
    """serving/client.py as a command, in this process: (its exit code, stdout, stderr)."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["client.py", *map(str, arguments)])
        patch.setattr(sys, "stdin", io.StringIO(input))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                client.main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
                print("" if isinstance(end.code, int) else end.code, file=sys.stderr)
    return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())


# --- The same answers ----------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_over_rest_the_answers_are_the_models(saved_models, rest_port, recipe):
    inputs = INPUTS[recipe]
    server = client.Rest("localhost", rest_port, 30)
    answer = server.ask(recipe, "serving_default", np.asarray(inputs).tolist())
    expected = directly(saved_models / recipe / "1", inputs)
    if recipe == "forecasting":  # as in TF Serving, one output has no name
        expected = {"outputs": expected["forecast"]}
    assert_same(answer, expected)


@pytest.mark.parametrize("recipe", RECIPES)
def test_over_grpc_the_answers_are_the_models(saved_models, grpc_port, recipe):
    inputs = INPUTS[recipe]
    server = client.Grpc("localhost", grpc_port, 30)
    answer = server.ask(recipe, "serving_default", np.asarray(inputs).tolist())
    assert_same(answer, directly(saved_models / recipe / "1", inputs))


def test_the_command_prints_answers(saved_models, rest_port, grpc_port, tmp_path):
    expected = directly(saved_models / "pos_tagging/1", ["I saw a saw.", "Saws!"])
    lines = []
    for i, sentence in enumerate(["I saw a saw.", "Saws!"]):
        words, tags = (b" ".join(expected[n][i]).decode().strip() for n in ("words", "tags"))
        lines += [sentence, f"  lengths: {len(words.split())}", f"  tags: {tags}"]
        lines += [f"  words: {words}"]
    for where in (["--port", rest_port], ["--grpc", "--port", grpc_port]):
        command = ["serving/client.py", "pos_tagging", "I saw a saw.", "Saws!", *map(str, where)]
        done = subprocess.run(
            [sys.executable, *command], cwd=REPOSITORY, capture_output=True, text=True
        )
        assert done.stdout.splitlines() == lines, done.stderr

    with (tmp_path / "window.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerows(
            [["date", "a", "b", "c"], *(["2016-07-01", *row] for row in SERIES[:LOOKBACK])]
        )
    done = run_client("forecasting", tmp_path / "window.csv", "--port", rest_port)
    printed = [[float(x) for x in line.split()] for line in done.stdout.splitlines()[2:]]
    expected = directly(saved_models / "forecasting/1", SERIES[:LOOKBACK][None])["forecast"][0]
    np.testing.assert_allclose(printed, expected, rtol=1e-4)


def post(port, body, model="pos_tagging"):
    connection = http.client.HTTPConnection("localhost", port, timeout=30)
    kind = {"Content-Type": "application/json"}
    connection.request("POST", f"/v1/models/{model}:predict", json.dumps(body), kind)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def test_rows_are_answered_by_rows(saved_models, rest_port):
    expected = directly(saved_models / "pos_tagging/1", SENTENCES)
    for instances in (SENTENCES, [{"sentences": sentence} for sentence in SENTENCES]):
        status, answer = post(rest_port, {"instances": instances})
        assert status == 200
        rows = answer["predictions"]
        assert_same({name: [row[name] for row in rows] for name in expected}, expected)
    words = [["I", "saw"], ["Saws", ""]]
    status, answer = post(rest_port, {"signature_name": "words", "instances": words})
    assert [row["lengths"] for row in answer["predictions"]] == [2, 1]
    window = INPUTS["forecasting"].tolist()
    status, answer = post(rest_port, {"instances": window}, "forecasting")
    expected = directly(saved_models / "forecasting/1", window)["forecast"]
    np.testing.assert_allclose(answer["predictions"], expected, rtol=1e-5, atol=1e-5)


def test_a_text_is_read_as_it_comes(rest_port, grpc_port):
    for where in (["--port", rest_port], ["--grpc", "--port", grpc_port]):
        done = run_client("counter", "--stream", *where, input="ab\nçd\n")
        assert done.stdout.splitlines() == ["ab", "  so_far: 3", "çd", "  so_far: 7"], done.stderr

    servers = client.Rest("localhost", rest_port, 30), client.Grpc("localhost", grpc_port, 30)
    for server, odd in zip(servers, ({"b64": "////"}, b"\xff\xff\xff")):
        state = server.ask("counter", "initial_state", {"batch_size": 1})
        for chunk in ("ab", "çd"):
            answer = server.ask("counter", "stream", {"chunk": [chunk], **state})
            state = {name: answer[name] for name in state}
        assert answer == {"so_far": [5], "count": [5], "odd_bytes": [odd]}


def test_a_review_is_scored_as_it_comes(saved_models, rest_port, grpc_port):
    review = "a good film, not a bad one. "
    expected = directly(saved_models / "sentiment_stream/1", [review])
    for server in (
        client.Rest("localhost", rest_port, 30),
        client.Grpc("localhost", grpc_port, 30),
    ):
        state = server.ask("sentiment_stream", "initial_state", {"batch_size": 1})
        for chunk in ("a go", "od film, n", "ot a bad one. "):
            answer = server.ask("sentiment_stream", "stream", {"chunk": [chunk], **state})
            state = {name: answer.pop(name) for name in state}
        assert_same(answer, expected)


def test_clients_at_the_same_time_get_each_their_own(saved_models, rest_port):
    texts = [f"{word} film {i}" for i in range(12) for word in ("good", "bad", "a")]
    expected = directly(saved_models / "sentiment/1", texts)["probabilities"]

    def ask(review):
        server = client.Rest("localhost", rest_port, 60)
        return server.ask("sentiment", "serving_default", [review])["probabilities"][0]

    with ThreadPool(8) as pool:
        np.testing.assert_allclose(pool.map(ask, texts), expected, atol=1e-5)


def test_a_new_version_takes_over(saved_models, rest_port):
    server = client.Rest("localhost", rest_port, 30)
    before = server.ask("sentiment", "serving_default", SENTENCES)
    EXPORTS["sentiment"](saved_models / "sentiment")
    answer = server.ask("sentiment", "serving_default", SENTENCES)
    assert_same(answer, directly(saved_models / "sentiment/2", SENTENCES))
    assert answer["probabilities"] != before["probabilities"]


def test_any_signature_is_asked(saved_models, rest_port, grpc_port):
    version = saved_models / "pos_tagging/1"
    expected = directly(version, [["I", "saw", "."], ["Saws", "", ""]], "words")
    asked = ["pos_tagging", "I saw .", "Saws", "--signature", "words", "--split"]
    done = run_client(*asked, "--port", rest_port)
    tags = [b" ".join(row).decode().strip() for row in expected["tags"]]
    assert re.findall("tags: (.*)", done.stdout) == tags, done.stderr
    server = client.Grpc("localhost", grpc_port, 30)
    assert_same(server.ask("pos_tagging", "words", text.words(["I saw .", "Saws"])), expected)


def test_one_model_alone_is_served(saved_models, with_kserve, tmp_path):
    import kserve_server

    def served(path):
        return [(folder, kserve_server.SavedModel(folder)) for folder in folders(path)]

    folders = kserve_server.model_folders
    save_counter(tmp_path / "counter")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path, tmp_path / "counter", tmp_path / "counter/1"):
        ((_, model),) = served(path)
        assert model.name == "counter" and model.ready
    (tmp_path / "counter/1").rename(tmp_path / "model")  # a SavedModel that is no version
    ((_, model),) = served(tmp_path / "model")
    assert model.name == "model" and model.ready
    assert not folders(tmp_path / "empty") and not folders(tmp_path / "nowhere")


@pytest.mark.parametrize("given", [5, None, "a", {"x": [1]}])
def test_instances_that_are_no_list_are_refused(with_kserve, given):
    import kserve_server
    from kserve.errors import InvalidInput

    with pytest.raises(InvalidInput, match="must be a list"):
        kserve_server.named_inputs({"instances": given}, {"x": tf.TensorSpec([None])})


def test_what_cannot_be_loaded_leaves_the_version_before(with_kserve, tmp_path, caplog):
    import kserve_server

    def version_that_answers():
        (count,) = model.answer({"signature_name": "count", "inputs": {"x": [0]}})["outputs"]
        return count

    def save(version, number=None):
        module = tf.Module()
        module.number = tf.Variable(number or int(version))
        spec = tf.TensorSpec([None], tf.int32, name="x")
        module.count = tf.function(lambda x: {"count": x + module.number}, [spec])
        tf.saved_model.save(module, tmp_path / version, {"count": module.count})
        return tmp_path / version

    save("1")
    model = kserve_server.SavedModel(tmp_path)
    assert version_that_answers() == 1

    caplog.set_level("ERROR", "kserve")
    logging.getLogger("kserve").propagate = True
    (tmp_path / "2").mkdir()  # empty
    assert version_that_answers() == 1 and not caplog.messages
    graph = save("3") / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:-100])
    weights = next((save("4") / "variables").glob("*.data*"))
    weights.unlink()
    for _ in range(3):
        assert version_that_answers() == 1
    assert [Path(m.split()[0]).name for m in caplog.messages] == ["4", "3"]  # once each

    shutil.rmtree(tmp_path / "4")
    save("4")  # as it should have been
    assert version_that_answers() == 4
    shutil.rmtree(tmp_path / "4")
    save("4", 5)  # its number again, with no request between
    assert version_that_answers() == 5
    graph = tmp_path / "4" / "saved_model.pb"
    whole = graph.read_bytes()
    graph.write_bytes(whole[:-100])  # written over, and not whole yet
    assert version_that_answers() == 5
    graph.write_bytes(whole)
    assert version_that_answers() == 5
    shutil.rmtree(tmp_path / "4")  # back to what can be loaded
    assert version_that_answers() == 1
    shutil.rmtree(tmp_path / "1")
    assert version_that_answers() == 1  # from memory, if nothing else is left


def test_a_server_of_nothing_that_can_be_loaded_says_so(with_kserve, tmp_path, monkeypatch, caplog):
    import kserve_server

    logging.getLogger("kserve").propagate = True
    (tmp_path / "broken/1").mkdir(parents=True)
    (tmp_path / "broken/1/saved_model.pb").write_bytes(b"no model")
    monkeypatch.setattr(sys, "argv", ["kserve_server.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="There is no SavedModel"):
        kserve_server.main()
    assert "broken/1 cannot be loaded" in caplog.text


def test_the_log_has_a_line_for_each_request(rest_server):
    port, log = rest_server
    before = len(log.read_text().splitlines())
    requests = [{"instances": SENTENCES}, {"instances": [1]}, {}, {"inputs": ["a"]}]
    for body in requests:
        post(port, body)
    post(port, {"instances": ["a"]}, "no_such_model")
    deadline = time.monotonic() + 20  # a line is written once its answer is out
    while len(log.read_text().splitlines()) <= before + len(requests):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    time.sleep(1)  # for those that should not be there
    lines = log.read_text().splitlines()[before:]
    assert len(lines) == len(requests) + 1, lines
    statuses = [re.search(r'" (\d+)', line)[1] for line in lines]
    assert statuses == ["200", "400", "400", "200", "404"]


# --- What goes wrong -----------------------------------------------------------------------


def test_no_server(tmp_path):
    port = free_port()
    for where in (["--port", port], ["--grpc", "--port", port]):
        done = run_client("sentiment", "text", *where)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert "No model server answers at" in done.stderr and str(port) in done.stderr


def test_no_answer():
    with socket.create_server(("localhost", 0)) as silent:
        port = silent.getsockname()[1]
        for where in (["--port", port], ["--grpc", "--port", port]):
            done = run_client("sentiment", "text", "--timeout", "0.5", *where)
            assert done.returncode == 1 and "Traceback" not in done.stderr
            assert "no answer within 0.5 seconds" in done.stderr


def test_an_unknown_model(rest_port, grpc_port):
    for where in (["--port", rest_port], ["--grpc", "--port", grpc_port]):
        done = run_client("sentimental", "text", *where)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert re.search("server refuses: .*sentimental", done.stderr)


def test_inputs_that_are_refused(rest_port, grpc_port, tmp_path):
    (tmp_path / "window.csv").write_text("1,2,3\n4,5,6\n")
    done = run_client("forecasting", tmp_path / "window.csv", "--port", rest_port)
    assert done.returncode == 1 and f"(1, 2, 3), expected (None, {LOOKBACK}, 3)" in done.stderr
    with pytest.raises(SystemExit, match="server refuses"):
        window = [[[1.0, 2.0, 3.0]]]
        client.Grpc("localhost", grpc_port, 30).ask("forecasting", "serving_default", window)
    done = run_client("forecasting", tmp_path / "nowhere.csv", "--port", rest_port)
    assert done.returncode == 1 and "There is no file" in done.stderr
    done = run_client("sentiment", "--port", rest_port)
    assert done.returncode == 2 and "give texts" in done.stderr


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, '"instances" or "inputs"'),
        ([], "JSON object"),
        ({"instances": "I saw"}, "to be a list"),
        ({"instances": [1, 2]}, "sentences"),
        ({"instances": [{"sentences": "a"}, {"words": "b"}]}, "same inputs"),
        ({"instances": [{"words": "a"}]}, "The inputs are ['sentences']"),
        ({"inputs": [["a"], ["b"]]}, "(2, 1), expected (None,)"),
        ({"inputs": [{"b64": "?"}]}, "sentences"),
        ({"inputs": ["a"], "signature_name": "letters"}, "no signature 'letters'"),
        ({"inputs": ["a"], "signature_name": []}, "no signature []"),
    ],
)
def test_bad_requests_are_answered_with_the_reason(rest_port, body, reason):
    status, answer = post(rest_port, body)
    assert status == 400 and reason in answer["error"]


# --- Configurations ------------------------------------------------------------------------


def test_configurations_name_every_recipe_and_one_image():
    yaml = pytest.importorskip("yaml")
    recipes = {*RECIPES, "speech", "translation"}
    read = {p.name: p.read_text() for p in (REPOSITORY / "serving").iterdir() if p.is_file()}
    config = text_format.Parse(read["models.config"], model_server_config_pb2.ModelServerConfig())
    served = {c.name: c.base_path for c in config.model_config_list.config}
    assert served == {recipe: f"/models/{recipe}" for recipe in SHIPPED}

    compose = yaml.safe_load(read["docker-compose.yml"])["services"]["tf-serving"]
    assert compose["volumes"] == ["../saved_models:/models:ro", ".:/config:ro"]
    files = [option.partition("=")[2] for option in compose["command"] if "_file=" in option]
    assert set(files) == {"/config/models.config", "/config/batching.config"}

    services = list(yaml.safe_load_all(read["kserve.yaml"]))
    assert len(services) == len(recipes)
    for service in services:
        model = service["spec"]["predictor"]["model"]
        assert compose["image"] == f"tensorflow/serving:{model['runtimeVersion']}"
        assert model["storageUri"].rpartition("/")[2] in recipes
