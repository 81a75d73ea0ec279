"""How good the built-in garments model is: `python -m benchmarks.garments [--json FILE]`.

Asks about Fashion-MNIST's 10,000 test pictures (none of them trained on) exactly as the backend does: the shipped
Chinese label config, the default prompt, constrained decoding, the review rules. Parts: with 32-bit weights, with NF4.
Style, season and scene follow from the class by a rule of ours (training/rules.py).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from backend.engine.options import EngineOptions
from benchmarks.in_process import InProcessEngine
from benchmarks.pictures import FIELDS, NUM, labels_of, request_about
from benchmarks.report import Figure, Measure, Part, measure_parts, use_threads
from label_config.answer import Answer, parse_answer
from label_config.review import review
from model_loader.loader import load_model
from training.variants import shipped_schema

SLOTS = 64
AT_ONCE = 1000
NUM_BINS = 15


def measure(weights: Literal["none", "nf4"], folder: Path, small: bool) -> Part:
    """Annotate the test pictures and compare with the rules."""
    num, schema = 200 if small else NUM, shipped_schema("zh")
    loaded = load_model("garments", quantisation=weights, dtype=torch.float32)
    engine = InProcessEngine(loaded, EngineOptions(max_slots=SLOTS))
    answers: list[Answer] = []
    num_tokens, started = 0, time.perf_counter()
    for start in range(0, num, AT_ONCE):
        results = engine.answer([request_about(number) for number in range(start, min(start + AT_ONCE, num))])
        num_tokens += sum(len(result.pieces) for result in results)
        answers += [parse_answer(schema, r.pieces, r.probabilities, truncated=False) for r in results]
    seconds = time.perf_counter() - started
    engine.close()
    figures = [Figure("speed", num / seconds, "images/s"), Figure("tokens an answer", num_tokens / num)]
    right: dict[str, NDArray[np.bool_]] = {}
    for name in FIELDS:
        found = [answer.fields[name] for answer in answers]
        right[name] = np.array([f.value == (getattr(labels_of(n), name),) for n, f in enumerate(found)])
        confidence = np.array([f.confidence for f in found], dtype=np.float64)
        figures += [
            Figure(f"{name}: accuracy", _share(right[name]), "share"),
            Figure(f"{name}: mean confidence", float(confidence.mean()), "share"),
            Figure(f"{name}: expected calibration error", calibration_error(confidence, right[name]), "share"),
        ]
    flagged = np.array([bool(review(schema, answer)) for answer in answers])
    lengths = np.array([len(str(answer.fields["caption"].value)) for answer in answers])
    figures += [
        Figure("flagged for review", _share(flagged), "share"),
        Figure("category correct among the unflagged", _share(right["category"][~flagged]), "share"),
        Figure("captions of 80-120 characters", _share((lengths >= 80) & (lengths <= 120)), "share"),
    ]
    return Part(f"{num:,} test pictures, label config garments.zh, {SLOTS} slots", figures)


def calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """The expected calibration error (Guo et al. 2017): the mean distance between confidence and accuracy over
    `NUM_BINS` equal bins, weighted by their sizes."""
    bins = (confidence * NUM_BINS).astype(int).clip(max=NUM_BINS - 1)
    return float(np.abs(np.bincount(bins, confidence - right)).sum() / len(right))


def _share(values: NDArray[np.bool_]) -> float:
    return float(values.mean()) if values.size else 0.0


PARTS: dict[str, Measure] = {"float32": partial(measure, "none"), "nf4": partial(measure, "nf4")}


def main(arguments: Sequence[str] | None = None) -> int:
    use_threads(1)
    return measure_parts(__doc__, PARTS, arguments)


if __name__ == "__main__":
    sys.exit(main())
