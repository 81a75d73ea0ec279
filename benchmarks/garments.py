"""How good the built-in garments model is: `python -m benchmarks.garments [--limit N] [--json FILE]`.

Asks about Fashion-MNIST's 10,000 test pictures (none of them trained on) exactly as the backend does: the shipped
Chinese label config, the default prompt, constrained decoding, the review rules. Prints accuracy, confidence and
expected calibration error for each field, with 16/32-bit weights and with NF4.
Style, season and scene follow from the class by a rule of ours (training/rules.py).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from backend.engine.options import EngineOptions
from benchmarks.in_process import InProcessEngine
from benchmarks.pictures import NUM, classes, request_about
from benchmarks.report import options, print_table, write_json
from label_config.answer import Answer, parse_answer
from label_config.review import review
from model_loader.loader import load_model
from training.rules import LABELS
from training.variants import shipped_schema

FIELDS = ("category", "style", "season", "scene")
NUM_BINS = 15
AT_ONCE = 1000
Figures = dict[str, Any]


def measure(weights: str, limit: int, batch: int) -> Figures:
    """Annotate the first `limit` test pictures and compare with the rules."""
    dtype = torch.bfloat16 if weights == "bfloat16" else torch.float32
    loaded = load_model("garments", quantisation="nf4" if weights == "nf4" else "none", dtype=dtype)
    engine, schema = InProcessEngine(loaded, EngineOptions(max_slots=batch)), shipped_schema("zh")
    answers: list[Answer] = []
    num_tokens, started = 0, time.perf_counter()
    for start in range(0, limit, AT_ONCE):
        results = engine.answer([request_about(number) for number in range(start, min(start + AT_ONCE, limit))])
        num_tokens += sum(len(result.pieces) for result in results)
        answers += [parse_answer(schema, r.pieces, r.probabilities, truncated=False) for r in results]
    seconds = time.perf_counter() - started
    truth = [LABELS["zh"][number] for number in classes()[:limit]]
    fields: dict[str, Figures] = {}
    for field in FIELDS:
        values = [getattr(labels, field) for labels in truth]
        found = [answer.fields[field] for answer in answers]
        right = np.array([f.value == (value,) for f, value in zip(found, values, strict=True)])
        confidence = np.array([f.confidence for f in found], dtype=np.float64)
        fields[field] = {
            "accuracy": float(right.mean()),
            "mean_confidence": float(confidence.mean()),
            "calibration_error": calibration_error(confidence, right),
        }
        if field == "category":
            category = right
    flagged = np.array([bool(review(schema, answer)) for answer in answers])
    lengths = np.array([len(str(answer.fields["caption"].value)) for answer in answers])
    return {
        "weights": weights,
        "num_pictures": limit,
        "fields": fields,
        "accuracy_of_unflagged": _mean(category[~flagged]),
        "flagged_share": _mean(flagged),
        "flagged_share_of_wrong": _mean(flagged[~category]),
        "captions_in_length": _mean((lengths >= 80) & (lengths <= 120)),
        "tokens_per_answer": num_tokens / limit,
        "pictures_per_s": limit / seconds,
    }


def calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """The expected calibration error (Guo et al. 2017): the mean distance between confidence and accuracy over
    `NUM_BINS` equal bins, weighted by their sizes."""
    bins = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    error = 0.0
    for number in np.unique(bins):
        inside = bins == number
        error += float(inside.mean()) * abs(float(confidence[inside].mean()) - float(right[inside].mean()))
    return error


def _mean(values: NDArray[np.bool_]) -> float:
    return float(values.mean()) if values.size else 0.0


def print_reports(reports: Sequence[Figures]) -> None:
    print_table(
        ["weights, field", "accuracy", "confidence", "cal. error"],
        [
            [f"{report['weights']}, {name}", f"{field['accuracy']:.2%}"]
            + [f"{field[key]:.3f}" for key in ("mean_confidence", "calibration_error")]
            for report in reports
            for name, field in report["fields"].items()
        ],
    )
    for report in reports:
        print(
            "\n{weights}: {num_pictures} pictures, {pictures_per_s:.1f}/s, {tokens_per_answer:.1f} tokens an answer, "
            "captions of 80-120 characters {captions_in_length:.1%}\n  flagged for review {flagged_share:.1%}; of the "
            "wrong categories {flagged_share_of_wrong:.1%} are flagged; category accuracy of the rest "
            "{accuracy_of_unflagged:.2%}".format(**report)
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--limit", type=int, default=NUM, help="number of test pictures")
    parser.add_argument("--batch", type=int, default=64, help="slots of the engine")
    parser.add_argument("--weights", choices=("float32", "bfloat16", "nf4"), nargs="+", default=["float32", "nf4"])
    args = parser.parse_args(arguments)
    reports = [measure(weights, args.limit, args.batch) for weights in args.weights]
    print_reports(reports)
    if args.json:
        about = "Fashion-MNIST test split, label config garments.zh"
        write_json(args.json, {"data": about, "reports": reports})


if __name__ == "__main__":
    main()
