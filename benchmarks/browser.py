"""Times models in a browser: the ONNX files of `exports.py`, ours and Keras's, in a real Chromium.

    npm --prefix serving/web ci
    python benchmarks/browser.py

By onnxruntime-web, in one thread, as on the page of serving/web. Each file is loaded and asked in a
browser of its own; they take turns. Milliseconds are told by a browser to a tenth. Leaves
browser.json in benchmarks/.
"""

import argparse
import datetime
import functools
import http.server
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1]))

import exports
import numpy as np
from timing import machine

from serving.web.build import REPOSITORY, RUNTIME, RUNTIME_FILES

HERE = Path(__file__).parent


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def write(kind: str, args: argparse.Namespace, folder: Path) -> list[str]:
    """The names of the files."""
    import keras

    import layers

    ours, kerass = (
        exports.build(library, kind, args.features, args.units)
        for library in (layers, keras.layers)
    )
    kerass.set_weights(ours.get_weights())
    kerass(np.zeros((1, args.steps, args.features), "float32"))  # else Keras does not export it
    layers.export_onnx(ours, folder / "ours.onnx")
    kerass.export(folder / "keras.onnx", format="onnx", verbose=False)
    return ["ours", "keras"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    exports.add_sizes(parser)
    args = parser.parse_args()
    for needed in (RUNTIME, REPOSITORY / "serving/web/node_modules/playwright-core"):
        if not needed.is_dir():
            raise SystemExit(f"There is no {needed}: npm --prefix serving/web ci")
    results = {"machine": machine(), "date": datetime.date.today().isoformat(), "cases": []}
    print("| cell | batch | file | load, s | first, ms | p50, ms | p99, ms |\n|" + "---|" * 7)
    for kind in exports.KINDS:
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            (folder / "index.html").touch()
            for file in RUNTIME_FILES:
                shutil.copy(RUNTIME / file, folder)
            names = write(kind, args, folder)
            files = functools.partial(Quiet, directory=str(folder))
            with http.server.ThreadingHTTPServer(("127.0.0.1", 0), files) as server:
                threading.Thread(target=server.serve_forever, daemon=True).start()
                for batch in exports.BATCHES:
                    times = {name: [] for name in names}
                    for _ in range(args.rounds):
                        for name in names:
                            shape = json.dumps([batch, args.steps, args.features])
                            url = f"http://127.0.0.1:{server.server_port}"
                            command = ["node", HERE / "browser.mjs", url, f"{name}.onnx", shape]
                            command.append(str(args.requests))
                            done = subprocess.run(command, check=True, capture_output=True)
                            times[name].append(json.loads(done.stdout))
                    for name, each in times.items():
                        found = {k: statistics.median(t[k] for t in each) for k in each[0]}
                        results["cases"].append(
                            {"kind": kind, "batch": batch, "file": name, **found}
                        )
                        numbers = " | ".join(f"{x:.3g}" for x in found.values())
                        print(f"| {kind} | {batch} | {name} | {numbers} |", flush=True)
                server.shutdown()
    (HERE / "browser.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
