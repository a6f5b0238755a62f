"""The processes that train together: who they are, starting them, and that they agree.

TensorFlow's name for this is TF_CONFIG, a variable of the environment, the same for all but
for "index"; worker 0 is the chief:

    {"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}

`--workers N` starts N − 1 more of this process, here, each with its own. Before they train, all
tell each other what they were started with; what stands in the way of one, all of them say.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import NamedTuple

PATIENCE = 600  # seconds until all workers must be there
LONGEST = 2**20  # bytes that a worker says
HEARD = b"heard\n"  # what another one answers
CHILD = "STARTED_BY_THE_CHIEF"  # in the environment of processes that were


class Cluster(NamedTuple):
    addresses: list[str]  # of all workers, the chief's first
    index: int  # of this one

    def name(self, index: int) -> str:
        return f"worker {index} ({self.addresses[index]})"


ALONE = Cluster([""], 0)


def own() -> Cluster:
    """This process's, by TF_CONFIG.

    Raises:
        SystemExit: If TF_CONFIG says nothing sensible.
    """
    given = os.environ.get("TF_CONFIG")
    if not given:
        return ALONE
    try:
        config = json.loads(given)
        jobs, task = config.get("cluster", {}), config.get("task", {})
        addresses = [*jobs.get("chief", []), *jobs.get("worker", [])]
        index = int(task.get("index", 0))
        index += len(jobs.get("chief", [])) if task.get("type") == "worker" else 0
        places = Counter(map(str, addresses))
    except (ValueError, TypeError, AttributeError) as error:
        raise SystemExit(f"TF_CONFIG is not what TensorFlow takes ({error}): {given}") from error
    problem = None
    if extra := sorted({*jobs} - {"chief", "worker"}):
        problem = f"its cluster may have a chief and workers, not {', '.join(extra)}"
    elif addresses and task.get("type") not in jobs:
        problem = f"its task is of the type {task.get('type')!r}, its cluster has {', '.join(jobs)}"
    elif wrong := [x for x in places if not re.fullmatch(r"[^:/\s]+:\d{1,5}", x)]:
        problem = f"{wrong[0]!r} is no address like host:2222"
    elif twice := [x for x, n in places.items() if n > 1]:
        problem = f"{twice[0]} is there twice"
    elif addresses and not 0 <= index < len(addresses):
        problem = f"its index is {index}, of {len(addresses)} workers"
    if problem:
        raise SystemExit(f"TF_CONFIG: {problem}. It is {given}")
    return Cluster(addresses, index) if len(addresses) > 1 else ALONE


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Ends the program if TF_CONFIG and `--workers` don't go together."""
    size = len(own().addresses)
    if args.workers and "TF_CONFIG" in os.environ and args.workers != max(1, size):
        parser.error(f"--workers is {args.workers}, and TF_CONFIG has {size} workers")


def start_others(workers: int | None) -> None:
    """Starts the workers on this machine, unless TF_CONFIG says where they are.

    This process is the chief, and the only one that prints. Whoever ends before its time takes
    the others with it.
    """
    if not workers or workers < 2 or "TF_CONFIG" in os.environ:
        return
    sockets = [socket.create_server(("localhost", 0)) for _ in range(workers)]
    addresses = [f"localhost:{x.getsockname()[1]}" for x in sockets]
    for each in sockets:
        each.close()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = str(max(1, cores // workers))
    for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, threads)
    for index in range(workers):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": {"worker": addresses}, "task": task})
        if index == 0:
            os.environ["TF_CONFIG"] = config
            continue
        child = subprocess.Popen(
            [sys.executable, *sys.orig_argv[1:]],
            env={**os.environ, "TF_CONFIG": config, CHILD: "1"},
            stdin=subprocess.PIPE,  # held until this process ends, in whatever way
            stdout=subprocess.DEVNULL,
        )
        threading.Thread(target=end_with, args=(child, index), daemon=True).start()


def end_with(child: subprocess.Popen, index: int) -> None:
    """Ends this process, if `child` fails and nothing else here noticed within some seconds."""
    if child.wait():
        time.sleep(5)
        how = f"signal {-child.returncode}" if child.returncode < 0 else f"code {child.returncode}"
        print(f"\nWorker {index} has ended ({how}), so this one does.", file=sys.stderr)
        os._exit(1)


def end_with_chief() -> None:
    """Ends this process when the one that started it ends."""

    def wait():
        os.read(0, 1)
        time.sleep(5)  # it may have noticed, and say so
        os._exit(1)

    if os.environ.get(CHILD):
        threading.Thread(target=wait, daemon=True).start()


def meet(cluster: Cluster, said: dict, patience: float = PATIENCE) -> None:
    """Waits until all workers are there, and have said the same.

    Args:
        said: What must be the same for all: {name: value}.

    Raises:
        SystemExit: In every worker, if they differ, or if something stands in the way of one.
    """
    heard, told = {cluster.index: {**said, "addresses": cluster.addresses}}, {cluster.index}
    try:
        server = socket.create_server(("", int(cluster.addresses[cluster.index].split(":")[1])))
    except OSError as error:
        heard[cluster.index]["problem"] = f"its port can't be had ({error.strerror})"
        server = None
    message = json.dumps({"index": cluster.index, "said": heard[cluster.index]}).encode() + b"\n"
    if server:
        threading.Thread(target=hear, args=(server, heard), daemon=True).start()
    begun = asked = time.monotonic()
    while True:
        everyone = {*range(len(cluster.addresses))}
        for index in everyone - told:
            if tell(cluster.addresses[index], message):
                told.add(index)
        problems = [f"{cluster.name(i)}: {x['problem']}" for i, x in [*heard.items()]
                    if i in everyone and "problem" in x]  # fmt: skip
        missing = everyone - (told & {*heard} if server else told)
        waited = time.monotonic() - begun
        if problems and (server or not missing or waited > min(patience, 30)):
            raise SystemExit("Before training, " + "\n".join(problems))
        if not missing:
            break
        if waited > patience:
            names = ", ".join(map(cluster.name, sorted(missing)))
            raise SystemExit(f"Did not come within {waited:.0f} seconds: {names}.")
        if time.monotonic() - asked > 30:
            asked = time.monotonic()
            print("Waiting for", ", ".join(map(cluster.name, sorted(missing))), flush=True)
        time.sleep(0.1)
    server.shutdown(socket.SHUT_RDWR)  # `hear` ends, and with it the last use of the port
    server.close()
    refuse_differences(heard)


def hear(server: socket.socket, heard: dict) -> None:
    """Puts into `heard` what each worker says, by its number."""
    while True:
        try:
            connection, _ = server.accept()
        except OSError:  # closed
            return
        with connection:
            try:
                connection.settimeout(5)
                with connection.makefile("rb") as file:
                    found = json.loads(file.readline(LONGEST))
                heard[int(found["index"])] = dict(found["said"])
                connection.sendall(HEARD)
            except (OSError, ValueError, KeyError, TypeError):
                pass  # something else, that will come again or not


def tell(address: str, message: bytes) -> bool:
    """Whether the worker there heard it."""
    host, port = address.split(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2) as connection:
            connection.sendall(message)
            return connection.recv(len(HEARD)) == HEARD
    except OSError:
        return False


def refuse_differences(heard: dict[int, dict]) -> None:
    """Ends the program, in every worker with the same words, if they said different things."""
    chief, differences = heard[0], []
    for index, said in sorted(heard.items()):
        for name in sorted({*chief, *said}):
            if chief.get(name) != said.get(name):
                differences.append(
                    f"{name}: {chief.get(name)} at worker 0, {said.get(name)} at worker {index}"
                )
    if differences:
        raise SystemExit("The workers differ:\n  " + "\n  ".join(differences))
