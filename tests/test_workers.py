"""Several workers learn what one process learns; killed at any moment, they go on; they agree."""

import argparse
import json
import os
import socket
import subprocess
import threading

import numpy as np
import processes
import pytest
import tensorflow as tf
from conftest import HASTY, REPOSITORY

from recipes.common import cluster, workers

# Forks workers, again and again, from a process that has imported TensorFlow, and not used it.
WORKERS = """
import argparse, json, os, random, signal, socket, sys, time
from pathlib import Path
import keras, numpy as np, tensorflow as tf
import layers
from recipes.common import training, workers
from recipes.common.row_adam import RowAdam

def addresses():
    sockets = [socket.create_server(("localhost", 0)) for _ in range(2)]
    found = [f"localhost:{x.getsockname()[1]}" for x in sockets]
    [x.close() for x in sockets]
    return found

def weighted():
    # Words that count differently; batches of 4, the last of 1; a table, clipping, our layer.
    random = np.random.default_rng(0)
    numbers = random.integers(1, 9, (13, 5))
    counted = random.random((13, 5)).astype("float32") * (random.random((13, 1)) < 0.7)
    data = tf.data.Dataset.from_tensor_slices((numbers, numbers % 3, counted))
    model = keras.Sequential([
        keras.Input((5,), dtype="int32"),
        keras.layers.Embedding(9, 4),
        layers.LSTM(4, return_sequences=True),
        keras.layers.Dense(3, "softmax"),
    ])
    loss = keras.losses.SparseCategoricalCrossentropy(reduction="mean_with_sample_weight")
    accuracy = keras.metrics.SparseCategoricalAccuracy("accuracy")
    model.compile(RowAdam(0.1, clipnorm=0.1), loss, weighted_metrics=[accuracy])
    return model, data.shuffle(13).batch(4), data.batch(4)

def plain():
    x = np.arange(8, dtype="float32")[:, None]
    data = tf.data.Dataset.from_tensor_slices((x, x)).repeat(20).batch(4)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.1), "mse", jit_compile=True)
    return model, data, data

def learn(kind, folder):
    args = argparse.Namespace(
        output=folder, epochs=3, steps=None, restart=False, seed=0, workers=None)
    training.seed(args)
    training.begin(args, 1)
    model, *data = globals()[kind]()
    leave = workers.leave_the_rest_to_the_chief

    def after_the_last_epoch():
        write(folder, {"weights": [x.numpy().ravel().tolist() for x in model.trainable_variables]})
        leave()

    workers.leave_the_rest_to_the_chief = after_the_last_epoch
    write(folder, training.fit(model, *data, args, best=("val_loss", "min")), "history-")

def write(folder, found, kind=""):
    (folder.parent / f"{folder.name}-{kind}{number()}.json").write_text(json.dumps(found))

def number():
    return json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": 0}}'))["task"]["index"]

def kerass_own(folder):
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with tf.distribute.MultiWorkerMirroredStrategy().scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    said = ""
    try:
        model.fit(tf.data.Dataset.from_tensors((np.ones((2, 1)), np.ones((2, 1)))), verbose=0)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    write(folder, {"said": said})
    os._exit(0)

def forked(index, hosts, log, task):
    child = os.fork()
    if child:
        return child
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND), stream)
    if hosts:
        task_of = {"type": "worker", "index": index}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": hosts}, "task": task_of})
    code = 0
    try:
        if task is kerass_own:
            task()
        with workers.joined({}):
            task()
    except SystemExit as error:
        print(error, file=sys.stderr)
        code = 1
    except BaseException:
        import traceback
        traceback.print_exc()
        code = 2
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(code)

def together(name, task, kill=None, after=0.0):
    hosts, begun, over = addresses(), time.monotonic(), False
    children = [forked(i, hosts, folder / f"{name}-{i}.log", task) for i in range(2)]
    if kill is not None:
        time.sleep(after)
        over = (folder / "killed-history-0.json").exists()  # the chief has done its work
        os.kill(children[kill], signal.SIGKILL)
        begun = time.monotonic()
    codes = [os.waitstatus_to_exitcode(os.waitpid(x, 0)[1]) for x in children]
    return codes, time.monotonic() - begun, over

folder, seed = Path(sys.argv[1]), int(sys.argv[2])
chance, found = random.Random(seed), {}
child = forked(0, None, folder / "one.log", lambda: learn("weighted", folder / "one"))
assert os.waitpid(child, 0)[1] == 0
found["two"] = together("two", lambda: learn("weighted", folder / "two"))
found["whole"] = together("whole", lambda: learn("plain", folder / "whole"))
for name, kill in (("chief killed", 0), ("other killed", 1), ("gone on", None)):
    after = chance.uniform(0.1, 0.9) * found["whole"][1]
    found[name] = *together(name, lambda: learn("plain", folder / "killed"), kill, after), after
found["keras"] = together("keras", lambda: kerass_own(folder / "keras"))
(folder / "found.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(the folder with what each worker found, what became of them)."""
    folder = tmp_path_factory.mktemp("workers")
    seed = np.random.default_rng().integers(2**31)  # other moments each time
    environment = {**os.environ, **HASTY}
    processes.run(["-c", WORKERS, folder, seed], cwd=REPOSITORY, env=environment)
    return folder, json.loads((folder / "found.json").read_text())


def read(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


def test_two_workers_learn_what_one_process_learns(trained):
    folder, found = trained
    assert found["two"][0] == [0, 0], [(folder / f"two-{i}.log").read_text() for i in (0, 1)]
    one, two, other = (read(folder, name) for name in ("one-0", "two-0", "two-1"))
    assert two == other
    for mine, theirs in zip(two["weights"], one["weights"]):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)
    one, two = (read(folder, f"{name}-history-0")["history"] for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, values in one.items():
        np.testing.assert_allclose(two[name], values, atol=1e-4, err_msg=name)


def test_a_worker_killed_at_any_moment_ends_all_and_the_same_command_goes_on(trained):
    folder, found = trained
    for name, kill in (("chief killed", 0), ("other killed", 1)):
        codes, seconds, over, after = found[name]
        said = (folder / f"{name}-{1 - kill}.log").read_text()
        assert seconds < 60, (after, said)
        if not over:  # else the other one may have ended, too, and well
            assert codes[kill] == -9 and codes[1 - kill] == 1, (after, said)
            assert f"Worker {kill} has stopped" in said, (after, said)
    assert found["gone on"][0] == [0, 0]
    whole, again = (read(folder, f"{name}-history-0")["history"] for name in ("whole", "killed"))
    assert whole.keys() == again.keys()
    for name, values in whole.items():
        np.testing.assert_allclose(again[name], values, rtol=1e-5, err_msg=name)


def test_kerass_own_fit_still_fails_under_tensorflows_strategy(trained):
    """When this fails, see whether recipes/common/workers.py can do with less of its own."""
    folder, _ = trained
    assert read(folder, "keras-0")["said"]


# --- Before training ------------------------------------------------------------------------


def config(index, *addresses, kind="worker", job="worker"):
    task = {"type": kind, "index": index}
    return json.dumps({"cluster": {job: addresses}, "task": task})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("{", "not what TensorFlow takes"),
        ("[1]", "not what TensorFlow takes"),
        (config(2, "a:1", "b:1"), "its index is 2, of 2 workers"),
        (config(0, "a:1", "a:1"), "a:1 is there twice"),
        (config(0, "a:1", "b"), "'b' is no address"),
        (config(0, "a:1", "b:1", kind="evaluator"), "of the type 'evaluator'"),
        (config(0, "a:1", "b:1", job="ps", kind="ps"), "not ps"),
    ],
)
def test_a_wrong_tf_config_is_said(given, says, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", given)
    with pytest.raises(SystemExit, match=says):
        cluster.own()


def test_the_chief_is_the_first_worker(monkeypatch):
    jobs = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
    for kind, index, number in (("chief", 0, 0), ("worker", 1, 2)):
        given = {"cluster": jobs, "task": {"type": kind, "index": index}}
        monkeypatch.setenv("TF_CONFIG", json.dumps(given))
        assert cluster.own() == (["a:1", "b:1", "c:1"], number)
    monkeypatch.setenv("TF_CONFIG", config(0, "a:1"))
    assert cluster.own() is cluster.ALONE


def test_workers_and_tf_config_must_agree(monkeypatch, capsys):
    monkeypatch.setenv("TF_CONFIG", config(0, "a:1", "b:1"))
    with pytest.raises(SystemExit):
        cluster.check(argparse.ArgumentParser(), argparse.Namespace(workers=3))
    assert "--workers is 3, and TF_CONFIG has 2 workers" in capsys.readouterr().err
    monkeypatch.setenv("TF_CONFIG", "{}")
    with pytest.raises(SystemExit):
        cluster.check(argparse.ArgumentParser(), argparse.Namespace(workers=2))
    assert "--workers is 2, and TF_CONFIG has" in capsys.readouterr().err


def met(*said, addresses=None, patience=20):
    """What each of the workers ends with, who say this."""
    if not addresses:
        sockets = [socket.create_server(("localhost", 0)) for _ in said]
        addresses = [f"localhost:{x.getsockname()[1]}" for x in sockets]
        for each in sockets:
            each.close()
    ends = [None] * len(said)

    def meet(index):
        try:
            cluster.meet(cluster.Cluster(addresses, index), said[index], patience)
        except SystemExit as error:
            ends[index] = str(error)

    threads = [threading.Thread(target=meet, args=(i,)) for i, x in enumerate(said) if x]
    [each.start() for each in threads]
    [each.join() for each in threads]
    return addresses, ends


def test_workers_that_agree_leave_their_ports_free():
    addresses, ends = met({"a": "1"}, {"a": "1"}, {"a": "1"})
    assert ends == [None] * 3
    for address in addresses:
        socket.create_server(("", int(address.split(":")[1]))).close()


def test_all_workers_say_how_they_differ():
    _, ends = met({"--epochs": "3"}, {"--epochs": "3"}, {"--epochs": "4"})
    assert ends == ["The workers differ:\n  --epochs: 3 at worker 0, 4 at worker 2"] * 3


@pytest.mark.parametrize("index", [0, 1])
def test_all_workers_say_that_a_port_is_in_use(index):
    sockets = [socket.create_server(("", 0)) for _ in range(3)]
    addresses = [f"localhost:{x.getsockname()[1]}" for x in sockets]
    [x.close() for i, x in enumerate(sockets) if i != index]
    _, ends = met({"a": 1}, {"a": 1}, {"a": 1}, addresses=addresses)
    sockets[index].close()
    assert len(set(ends)) == 1 and f"worker {index} ({addresses[index]}): its port" in ends[0]


def test_who_does_not_come_is_named():
    addresses, ends = met({"a": 1}, None, patience=0.5)
    assert "Did not come within" in ends[0] and f"worker 1 ({addresses[1]})" in ends[0]


# --- Where they are started ------------------------------------------------------------------


def test_kubernetes_tells_each_pod_who_it_is(monkeypatch):
    yaml = pytest.importorskip("yaml")
    service, job = yaml.safe_load_all((REPOSITORY / "deploy/train.yaml").read_text())
    name, pod = job["metadata"]["name"], job["spec"]["template"]["spec"]
    assert service["spec"]["selector"] == {"job-name": name}
    assert pod["subdomain"] == service["metadata"]["name"]
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 4
    shell, flag, script = pod["containers"][0]["command"]
    script = script.split("exec ")[0] + 'echo "$TF_CONFIG"'
    environment = {x["name"]: x["value"] for x in pod["containers"][0]["env"]}
    for index in range(4):
        given = {**environment, "JOB_COMPLETION_INDEX": str(index), "PATH": "/usr/bin:/bin"}
        command = [shell, flag, script]
        said = subprocess.run(command, env=given, capture_output=True, text=True, check=True)
        monkeypatch.setenv("TF_CONFIG", said.stdout)
        hosts = [f"{name}-{i}.{pod['subdomain']}:2222" for i in range(4)]
        assert cluster.own() == (hosts, index)


def test_slurm_tells_each_task_who_it_is(tmp_path, monkeypatch):
    fakes = {
        "scontrol": 'echo "node1\nnode2"',
        "srun": 'for i in 0 1; do SLURM_PROCID=$i "$2" "$3" "${4%exec*} echo \\$TF_CONFIG"; done',
    }
    for name, line in fakes.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    said = subprocess.run(
        ["bash", REPOSITORY / "deploy/train.slurm"], capture_output=True, text=True, check=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_NODELIST": "node[1-2]"},
    )  # fmt: skip
    for index, line in enumerate(said.stdout.splitlines()):
        monkeypatch.setenv("TF_CONFIG", line)
        assert cluster.own() == (["node1:2222", "node2:2222"], index)
    assert index == 1


@pytest.mark.parametrize("index", [0, 1])
def test_rows_of_a_batch_that_are_a_workers(index, monkeypatch):
    monkeypatch.setattr(workers, "OWN", workers.OWN._replace(index=index))
    monkeypatch.setattr(workers, "count", lambda: 2)
    for rows in (0, 1, 2, 5):
        ((mine, number, all_),) = workers.Rows(tf.data.Dataset.from_tensors((tf.range(rows),))).data
        expected = [*range(index, rows, 2)]
        assert (int(number), int(all_)) == (len(expected), rows)
        assert [*mine[0].numpy()][: len(expected)] == expected
