"""Recipes, killed, stopped by Ctrl-C and out of disk: the same command then goes on.

Of those whose models and data are of one kind, one is taken.

What a step of training does has no part in this: a run that is stopped does none here, only what
stands around.
"""

import json
import subprocess
import sys

import pytest
from conftest import REPOSITORY

SMALL = ["--dataset", "sample", "--epochs", "3", "--steps", "2"]
RUNS = {
    "forecasting": ["--lookback", "24", "--horizon", "8", "--cell", "simple_rnn"],
    "speech": ["--cell", "simple_rnn", "--strings"],
    "word_embeddings": ["--dimension", "20"],
}
TO_THE_END = ["forecasting"]  # others have their own tests of a whole run
# Runs a recipe again and again, each time in a process that forks from this one, which has
# imported TensorFlow, and not used it.
STOPPED = """
import importlib, json, os, resource, signal, sys
from pathlib import Path
import keras
from recipes.common import command_line, training

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

def fill_disk():
    limit = 50_000  # the system refuses longer files, as a full disk would
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

def epochs_without_steps(self, *data, initial_epoch, epochs, callbacks, **how):
    names = {"loss", "val_loss", callbacks[0].metric}
    callbacks = keras.callbacks.CallbackList(callbacks, model=self)
    for epoch in range(initial_epoch, epochs):
        callbacks.on_epoch_begin(epoch)
        callbacks.on_epoch_end(epoch, {name: 1 / (epoch + 1) for name in names})

def run(recipe, words, epoch=0, before=None, after=None):
    end = training.KeepEpochs.on_epoch_end

    def on_epoch_end(self, *given):
        now = len(self.rows) + 1 == epoch
        before() if now and before else None
        end(self, *given)
        after() if now and after else None

    training.KeepEpochs.on_epoch_end = on_epoch_end
    if epoch:
        keras.Model.fit = epochs_without_steps
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests
    module = importlib.import_module(f"recipes.{recipe}")
    command_line.run(module.main, module.arguments(words))

def in_a_process(log, *run_what, **how):
    child = os.fork()
    if not child:
        for stream in (1, 2):
            os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND), stream)
        code = 0
        try:
            run(*run_what, **how)
        except SystemExit as error:
            print(error, file=sys.stderr)
            code = error.code if isinstance(error.code, int) else 1
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

folder, runs, to_the_end = Path(sys.argv[1]), *map(json.loads, sys.argv[2:])
stops = {
    "killed": {"epoch": 1, "after": kill},
    "out of disk": {"epoch": 2, "before": fill_disk},
    "interrupted": {"epoch": 2, "after": interrupt},
    "finished": {},
}
for recipe in runs:
    importlib.import_module(f"recipes.{recipe}")
for recipe, words in runs.items():
    place = folder / recipe
    place.mkdir()
    words = ["--output", f"{place}/run", "--saved-models", f"{place}/saved_models", *words]
    found = {}
    for stop, how in stops.items():
        if stop == "finished" and recipe not in to_the_end:
            continue
        log = place / f"{stop}.log"
        code = in_a_process(log, recipe, words, **how)
        history = place / "run/checkpoints/history.json"
        epochs = json.loads(history.read_text())["epochs"] if history.exists() else []
        unfinished = [str(path) for path in place.rglob(".writing-*")]
        exported = [str(path) for path in place.rglob("saved_model.pb")]
        found[stop] = [code, log.read_text("utf-8"), epochs, unfinished, exported]
    (place / "found.json").write_text(json.dumps(found), "utf-8")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of each recipe what was found after each stop."""
    folder = tmp_path_factory.mktemp("interruptions")
    runs = {recipe: [*SMALL, *words] for recipe, words in RUNS.items()}
    given = json.dumps(runs), json.dumps(TO_THE_END)
    subprocess.run([sys.executable, "-c", STOPPED, folder, *given], cwd=REPOSITORY, check=True)
    return folder


@pytest.mark.parametrize("recipe", RUNS)
def test_stopped_in_any_way_a_run_goes_on_where_it_was(recipe, folder):
    found = json.loads((folder / recipe / "found.json").read_text("utf-8"))

    code, said, killed, *_ = found["killed"]
    assert code == -9 and len(killed) == 1, said

    code, said, epochs, unfinished, _ = found["out of disk"]
    assert code == 1 and "no room left" in said and "Traceback" not in said, said
    assert "Going on after epoch 1" in said and epochs == killed and not unfinished

    code, said, stopped, unfinished, exported = found["interrupted"]
    assert code == 130 and "goes on from epoch 3." in said and "Traceback" not in said, said
    assert len(stopped) == 2 and stopped[:1] == killed and not unfinished and not exported

    if recipe not in TO_THE_END:
        return
    code, said, finished, unfinished, exported = found["finished"]
    assert code == 0 and "Going on after epoch 2" in said, said
    assert len(finished) == 3 and finished[:2] == stopped and not unfinished and len(exported) == 1
