"""Python programs in processes of their own, without each importing TensorFlow anew.

    processes.run(["-c", "print(1)"], cwd=folder)
    processes.run(["script.py", "--help"], cwd=folder)

are `subprocess.run([sys.executable, …], capture_output=True, text=True)`. But the process is a fork
of one that has imported TensorFlow and Keras, and nothing of ours: that takes five seconds.
"""

import atexit
import gc
import json
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

_imported = None  # the process that the others fork from


def run(arguments, *, cwd, env=None, check=True) -> subprocess.CompletedProcess:
    """Runs Python with `arguments`: "-c" and a program, or a script; and what they are given.

    Raises:
        subprocess.CalledProcessError: If it ends otherwise than with 0, and `check`.
    """
    global _imported
    if _imported is None:
        command = [sys.executable, __file__]
        _imported = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        atexit.register(_imported.terminate)
    arguments = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        request = [arguments, str(cwd), dict(os.environ if env is None else env), folder]
        print(json.dumps(request), file=_imported.stdin, flush=True)
        code = int(_imported.stdout.readline())
        done = subprocess.CompletedProcess(
            arguments, code, out.read_text("utf-8"), err.read_text("utf-8")
        )
    if check and code:
        print(done.stdout, done.stderr, sep="\n")
        done.check_returncode()
    return done


def _fork(arguments, cwd, env, folder):
    """The exit code of a process that has done it."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{folder}/{name}", os.O_CREAT | os.O_WRONLY | os.O_APPEND), stream)
    code = 1
    try:
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        sys.path[0] = "" if arguments[0] == "-c" else str(Path(arguments[0]).parent)
        sys.path[1:1] = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
        if arguments[0] == "-c":
            sys.argv = ["-c", *arguments[2:]]
            exec(compile(arguments[1], "<program>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = arguments
            runpy.run_path(arguments[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if not isinstance(end.code, (int, type(None))):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    gc.freeze(), gc.set_threshold(50_000, 20, 100)  # graphs are many small objects
    for line in sys.stdin:
        print(_fork(*json.loads(line)), flush=True)
