"""What tests share: where real data is, and a process that has TensorFlow but not us."""

import fcntl
import functools
import gc
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import processes
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import kernels, op_def_registry

REPOSITORY = Path(__file__).parents[1]
# For processes whose programs are small and run a few times: to make them fast takes longer.
HASTY = {"XLA_FLAGS": f"{os.getenv('XLA_FLAGS', '')} --xla_backend_optimization_level=0"}

LONG = ("right_or_refused", "recipes", "recurrence", "parity", "serving", "keras_suite")
LONG += ("hostile_input", "speech", "random_cells", "word_embeddings", "own_texts", "streaming")
LONG += ("docs", "workers", "litert", "interruptions", "language_model", "onnx", "web")
LONG += ("other_runtimes", "variants", "translation", "gradient_flow", "devices", "quantiles")


def pytest_collection_modifyitems(items):
    """The longest files come first, lest one process ends long after the others."""
    first = {f"test_{name}": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: first.get(item.path.stem, len(first)))


def data_or_skip(path: str | None, what: str) -> Path:
    """The path of data that is not in the repository. Where CI runs, it must be there."""
    if path and Path(path).exists():
        return Path(path)
    reason = f"{what} is not here: {path or 'no path given'}"
    pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


@pytest.fixture
def tfds_data():
    path = os.environ.get("TFDS_DATA_DIR", Path.home() / "tensorflow_datasets")
    return data_or_skip(path, "data prepared by TensorFlow Datasets ($TFDS_DATA_DIR)")


@pytest.fixture
def etth1_csv():
    return data_or_skip(os.environ.get("ETTH1_CSV"), "ETTh1.csv ($ETTH1_CSV)")


@pytest.fixture
def questions_words():
    return data_or_skip(os.environ.get("QUESTIONS_WORDS"), "questions-words.txt ($QUESTIONS_WORDS)")


# What TensorFlow keeps of all graphs is many small objects, and Python would go through them ever
# again. So it collects a test's own after the test, and all of them once for each file.
gc.disable()


@pytest.fixture(autouse=True)
def what_a_test_leaves_is_collected():
    yield
    gc.collect(1)


@pytest.fixture(scope="module", autouse=True)
def what_is_left_is_not_collected_again():
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def without_graph_optimizer():
    """For tests of numbers that trace much: TensorFlow's optimizer takes a sixth of their time."""
    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options(
        {"disable_meta_optimizer": before.get("disable_meta_optimizer", False)}
    )


def made_once(tmp_path_factory, name: str, make: Callable[[Path], object]) -> Path:
    """What `make` writes at the path it is given, once for all processes that run tests."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / name).exists():
            make(folder / name)
    return folder / name


@pytest.fixture(scope="session")
def exports(tmp_path_factory):
    """{recipe: its small export}."""
    from small_exports import EXPORTS

    from recipes.common import publishing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publishing, "ask", lambda *_: None)  # the tests do
        return {
            name: made_once(tmp_path_factory, f"exported-{name}", export) / "1"
            for name, export in EXPORTS.items()
        }


def ask(version: Path, signature: str, inputs: dict, folder: Path) -> dict[str, np.ndarray]:
    """A SavedModel's answer, from a process that imports only TensorFlow and numpy."""
    np.savez(folder / "inputs.npz", **inputs)
    script = """
import json, sys
import numpy as np, tensorflow as tf
version, signature, folder = json.loads(sys.argv[1])
inputs = np.load(folder + "/inputs.npz")
inputs = {k: tf.constant(v.tolist() if v.dtype.kind == "U" else v) for k, v in inputs.items()}
outputs = tf.saved_model.load(version).signatures[signature](**inputs)
assert "layers" not in sys.modules and "recipes" not in sys.modules
text = lambda x: np.vectorize(lambda b: b.decode(), otypes=[str])(x) if x.dtype == object else x
np.savez(folder + "/outputs.npz", **{k: text(v.numpy()) for k, v in outputs.items()})
"""
    arguments = json.dumps([str(version), signature, str(folder)])
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    processes.run(["-c", script, arguments], cwd=folder, env=environment)
    return dict(np.load(folder / "outputs.npz"))


@functools.lru_cache(8)  # as many as test_serving.py goes through again and again
def loaded(version: Path):
    """The SavedModel, loaded in this process."""
    return tf.saved_model.load(str(version))


def answered(version: Path, signature: str, inputs: dict) -> dict[str, np.ndarray]:
    """As `ask`, in this process, which is quicker."""
    function = loaded(version).signatures[signature]
    found = function(**{name: tf.constant(value) for name, value in inputs.items()})
    text = np.vectorize(lambda x: x.decode(), otypes=[str])
    found = {name: (value.dtype, value.numpy()) for name, value in found.items()}
    return {n: text(x) if dtype == tf.string else x for n, (dtype, x) in found.items()}


@pytest.fixture(scope="session")
def c_program(tmp_path_factory):
    """serving/query.c, compiled against the TensorFlow that is installed."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("there is no C compiler")
    library = tf.sysconfig.get_lib()
    linked = ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"]

    def compile_to(program):
        subprocess.run(
            [compiler, "-Wall", "-Wextra", "-Werror", "-I", tf.sysconfig.get_include(),
             "-o", program, REPOSITORY / "serving/query.c", "-L", library, *linked,
             f"-Wl,-rpath,{library}"],
            check=True,
        )  # fmt: skip

    return made_once(tmp_path_factory, "query", compile_to)


def ask_in_c(program: Path, version: Path, signature: str, inputs: dict) -> dict[str, np.ndarray]:
    """As `ask`, without Python: through TensorFlow's C API."""
    definition = saved_model(version).meta_graphs[0].signature_def[signature]
    names = {name: tensor.name for name, tensor in definition.outputs.items()}
    lines = []
    for name, value in inputs.items():
        value = np.asarray(value)
        lines += [definition.inputs[name].name, " ".join(map(str, value.shape))]
        lines += [f"{x:.9g}" if value.dtype.kind == "f" else str(x) for x in value.ravel()]
    done = subprocess.run(
        [program, version, *names.values()], check=True, capture_output=True, text=True,
        input="\n".join(lines) + "\n",
    )  # fmt: skip
    found, rest = {}, done.stdout.splitlines()
    for name, tensor in names.items():
        (given, shape), rest = rest[:2], rest[2:]
        assert given == tensor
        shape = [int(n) for n in shape.split()]
        count = int(np.prod(shape))
        kind = str if definition.outputs[name].dtype == tf.string.as_datatype_enum else float
        found[name] = np.array([kind(x) for x in rest[:count]]).reshape(shape)
        rest = rest[count:]
    return found


def assert_same_answers(answer: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert answer.keys() == expected.keys()
    for name, value in expected.items():
        if value.dtype.kind == "U":
            np.testing.assert_array_equal(answer[name], value)
        else:
            np.testing.assert_allclose(answer[name], value, rtol=1e-5, atol=1e-5)


def saved_model(version: Path) -> saved_model_pb2.SavedModel:
    return saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())


def portable_ops(version: Path) -> set[str]:
    """The operations of a SavedModel, all of which must run on any CPU, without Python.

    Functions that run only once a loader has found a GPU are left out.
    """
    graphs = [meta.graph_def for meta in saved_model(version).meta_graphs]
    functions = {f.signature.name: f for graph in graphs for f in graph.library.function}

    def called(node):
        for value in node.attr.values():
            names = [node.op, value.func.name, *(f.name for f in value.list.func)]
            yield from (name for name in names if name in functions)

    nodes, reached = [n for graph in graphs for n in graph.node], {}
    for node in nodes:  # grows
        for name in called(node):
            if name not in reached:
                reached[name] = functions[name]
                assert reached[name].attr["api_preferred_device"].s != b"GPU", name
                nodes.extend(reached[name].node_def)
    compiled = [x for x in (*reached.values(), *nodes) if x.attr["_XlaMustCompile"].b]
    assert not compiled, f"bound to XLA: {compiled[0]}"
    ops = {node.op for node in nodes} - set(functions)
    for op in ops:
        assert "PyFunc" not in op and "Cudnn" not in op, op
        assert op_def_registry.get(op) is not None, f"{op} is no operation of TensorFlow"
        kinds = {k.device_type for k in kernels.get_registered_kernels_for_op(op).kernel}
        assert kinds & {"CPU", "DEFAULT"}, f"{op} runs on {kinds} only"
    return ops


def load_mean_of_weights(model, path):
    """The mean that a checkpoint's optimizer has; the weights beside it are to go on from."""
    rate = keras.optimizers.schedules.CosineDecay(1.0, 1)  # which has no variable, as theirs
    model.compile(keras.optimizers.Adam(rate, use_ema=True))
    model.optimizer.build(model.trainable_variables)
    model.load_weights(path)
    last = model.trainable_variables[0].numpy()
    model.optimizer.finalize_variable_values(model.trainable_variables)
    assert np.any(last != model.trainable_variables[0].numpy())
