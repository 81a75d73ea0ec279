"""Loads a model from a hub again and again, each time from nothing: killed somewhere, then to its end. A subprocess.

`python -m tests.model_loader.killed_child REPO FOLDER POINT...` prints a JSON line for each point: what a load that
nobody kills gives ("never"), or the load after one that was killed there. A point is the name of a stage, "writing the
copy", "naming the copy", or a share of all that a load opens, renames and makes. Every load is a fork of this process,
so that torch is imported once.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from model_loader.loader import load_model
from model_loader.saved import UNFINISHED

ABOUT_COPY = {"open": "writing the copy", "os.rename": "naming the copy"}
WATCHED = {"open", "os.rename", "os.mkdir", "os.link", "os.symlink", "shutil.copyfile"}


def main(repo: str, folder: Path, points: list[str]) -> None:
    whole = run(lambda: load(repo, folder, "never"), folder)
    assert whole is not None
    for point in points:
        for name in ("hf", "copies"):
            shutil.rmtree(folder / name, ignore_errors=True)
        if point == "never":
            print(json.dumps(whole), flush=True)
            continue
        after = str(int(float(point) * whole["events"])) if point[0].isdigit() else point
        killed = run(lambda: load(repo, folder, after), folder)  # noqa: B023
        assert killed is None, f"nothing was killed at {point}"
        print(json.dumps(run(lambda: load(repo, folder, "never"), folder)), flush=True)


def run(work: Callable[[], dict[str, Any]], folder: Path) -> dict[str, Any] | None:
    """What `work` returns in a process of its own; None if that was killed."""
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        try:
            result.write_text(json.dumps(work()))
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return None
    loaded: dict[str, Any] = json.loads(result.read_text())
    return loaded


def load(repo: str, folder: Path, until: str) -> dict[str, Any]:
    stages: list[str] = []
    num_events = 0

    def on_progress(stage: str, *others: object) -> None:
        stages.append(stage)
        if stage == until:
            die()

    def on_event(event: str, args: tuple[Any, ...]) -> None:
        nonlocal num_events
        if event not in WATCHED:
            return
        num_events += 1
        if until in (str(num_events), ABOUT_COPY.get(event, "") if UNFINISHED in str(args[0]) else ""):
            die()

    sys.addaudithook(on_event)
    loaded = load_model(repo, device="cpu", on_progress=on_progress, save_quantised_to=folder / "copies")
    digest = hashlib.sha256()
    for name, value in sorted(loaded.model.state_dict().items()):
        digest.update(name.encode() + value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return {
        "stages": list(dict.fromkeys(stages)),
        "weights": digest.hexdigest(),
        "weights_id": loaded.weights_id,
        "copies": sorted(copy.name for copy in (folder / "copies").iterdir()),
        "events": num_events,
    }


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
