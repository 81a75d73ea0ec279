"""`prelabel annotate` on a folder of pictures, on a CPU: `python -m benchmarks.bulk [--json FILE] [--only PART ...]`.

Fashion-MNIST's test pictures as PNG files of 224x224 through the command in a process of its own, with the built-in
model. Parts: whole (10,000 pictures: speed, memory, cost, accuracy), overhead (over the bare engine, in turns), resume
(killed at random moments), ray (two workers beside the engine of this machine) and article (the seed article's way).
Figures of one part were taken one after the other, and the load of the machine stands beside them. `--quick` is to see
that it works. With `--only`, other parts' figures that FILE holds are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from backend.settings import load_settings
from benchmarks.bulk_parts import OTHER_CONFIG, Bench, Figures, article, overhead, ray, resume, whole
from benchmarks.report import hardware, write_json
from training import dataset

PARTS: dict[str, Callable[[Bench], Figures]] = {
    "whole": whole,
    "overhead": overhead,
    "resume": resume,
    "ray": ray,
    "article": article,
}
NEEDS = {
    "whole": ("pictures",),
    "overhead": ("overhead_pictures",),
    "resume": ("resume_pictures",),
    "ray": ("ray_pictures",),
    "article": ("article_pictures", "other_pictures"),
}
QUICK = {
    "pictures": 200,
    "overhead_pictures": 40,
    "pairs": 1,
    "resume_pictures": 40,
    "kills": 1,
    "ray_pictures": 24,
    "article_pictures": 4,
    "other_pictures": 2,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=10_000, help="for the whole")
    parser.add_argument("--overhead-pictures", type=int, default=5_000, help="for all pairs together")
    parser.add_argument("--pairs", type=int, default=5, help="of a run of the command and one of the bare engine")
    parser.add_argument("--resume-pictures", type=int, default=1_500)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--ray-pictures", type=int, default=600)
    parser.add_argument("--article-pictures", type=int, default=300)
    parser.add_argument("--other-pictures", type=int, default=60, help=f"under {OTHER_CONFIG}")
    parser.add_argument("--threads", type=int, default=1, help="torch threads, for all of them")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="few pictures: to see that it works")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args(arguments)
    if args.quick:
        vars(args).update(QUICK)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # for the processes
    torch.set_num_threads(args.threads)
    figures = _kept(args.json) if args.json and args.only != list(PARTS) else {}
    with tempfile.TemporaryDirectory(prefix="bulk") as folder:
        bench = _prepare(Path(folder), args)
        for name in args.only:
            before = os.getloadavg()[0]
            print(f"\n## {name}: {PARTS[name].__doc__}\n{hardware()}, torch threads: {args.threads}\n")
            figures[name] = PARTS[name](bench)
            figures[name]["load_average"] = {"before": before, "after": os.getloadavg()[0]}
            print(f"load average {before:.1f} before, {os.getloadavg()[0]:.1f} after", flush=True)
            if args.json:
                write_json(args.json, {"torch_threads": args.threads, "model": "garments, nf4", **figures})


def _prepare(folder: Path, args: argparse.Namespace) -> Bench:
    """The pictures as files, as many as a part needs."""
    num = max(getattr(args, name) for part in args.only for name in NEEDS[part])
    classes = write_pictures(folder / "pictures", num)
    return Bench(
        folder,
        tuple(folder / "pictures" / f"{number:05}.png" for number in range(len(classes))),
        tuple(classes.tolist()),
        load_settings({"model": "garments", "data_dir": folder / "data", "log_level": "WARNING"}),
        args,
    )


def write_pictures(folder: Path, num: int) -> NDArray[np.int64]:
    """Write the first `num` Fashion-MNIST test pictures as 00000.png, ...; returns their classes."""
    pictures, classes = dataset.read_split(dataset.DEFAULT_FOLDER, "t10k")
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures[:num]):
        dataset.enlarge(picture).save(folder / f"{number:05}.png")
    return classes[:num]


def _kept(path: Path) -> Figures:
    """Other parts' figures of an earlier run."""
    figures = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {name: figures[name] for name in PARTS if name in figures}


if __name__ == "__main__":
    main()
