"""How good the built-in garments model is: `python -m benchmarks.garments [--limit N] [--json FILE]`.

Asks about Fashion-MNIST's 10,000 test pictures (none of them trained on) exactly as the backend does: the shipped
Chinese label config, the default prompt, constrained decoding, the review rules. Prints accuracy, confidence and
expected calibration error for each field, with 16/32-bit weights and with NF4.
Style, season and scene follow from the class by a rule of ours (training/rules.py).
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from backend.engine.messages import Picture, Sampling, Submit
from backend.engine.options import EngineOptions
from benchmarks.in_process import InProcessEngine
from benchmarks.report import write_json
from label_config.answer import Answer, parse_answer
from label_config.prompt import PromptOptions, build_instruction
from label_config.review import review
from label_config.schema import LabelSchema
from model_loader.loader import load_model
from training import dataset
from training.rules import LABELS
from training.variants import shipped_schema

FIELDS = ("category", "style", "season", "scene")
NUM_BINS = 15
Quantisation = Literal["none", "nf4"]


@dataclass(frozen=True, slots=True)
class FieldReport:
    """`calibration_error` is the expected calibration error over 15 equal bins (Guo et al. 2017)."""

    accuracy: float
    mean_confidence: float
    calibration_error: float


@dataclass(frozen=True, slots=True)
class Report:
    weights: str
    num_pictures: int
    fields: dict[str, FieldReport]
    accuracy_of_unflagged: float
    flagged_share: float
    flagged_share_of_wrong: float
    captions_in_length: float
    tokens_per_answer: float
    pictures_per_s: float


def measure(quantisation: Quantisation, dtype: torch.dtype, limit: int, batch: int) -> Report:
    """Annotate the first `limit` test pictures and compare with the rules."""
    pictures, classes = dataset.read_split(dataset.DEFAULT_FOLDER, "t10k")
    pictures, classes = pictures[:limit], classes[:limit]
    loaded = load_model("garments", quantisation=quantisation, dtype=dtype)
    engine = InProcessEngine(loaded, EngineOptions(max_slots=batch))
    schema = shipped_schema("zh")
    answers: list[Answer] = []
    num_tokens = 0
    started = time.perf_counter()
    for start in range(0, len(pictures), 1000):
        results = engine.answer([request_about(schema, i, pictures[i]) for i in range(start, min(start + 1000, limit))])
        num_tokens += sum(len(result.pieces) for result in results)
        answers += [parse_answer(schema, r.pieces, r.probabilities, truncated=False) for r in results]
    elapsed = time.perf_counter() - started
    name = "nf4" if quantisation == "nf4" else str(dtype).removeprefix("torch.")
    return _report(name, schema, answers, classes, num_tokens, elapsed)


def request_about(
    schema: LabelSchema, number: int, picture: NDArray[np.uint8], sampling: Sampling | None = None
) -> Submit:
    """Ask about one picture as the backend does; sampled with the number as seed unless `sampling` says otherwise."""
    shown = dataset.enlarge(picture).convert("RGB")
    return Submit(
        request_id=number,
        schema=schema,
        instruction=build_instruction(schema, PromptOptions()),
        picture=Picture(shown.width, shown.height, shown.tobytes()),
        sampling=sampling or Sampling(seed=number),
    )


def _report(
    name: str,
    schema: LabelSchema,
    answers: Sequence[Answer],
    classes: NDArray[np.int64],
    num_tokens: int,
    seconds: float,
) -> Report:
    truth = [LABELS["zh"][c] for c in classes.tolist()]
    right: dict[str, NDArray[np.bool_]] = {}
    fields: dict[str, FieldReport] = {}
    for field in FIELDS:
        wanted = [(t.category,) if field == "category" else (getattr(t, field),) for t in truth]
        found = [answer.fields[field] for answer in answers]
        right[field] = np.array([f.value == w for f, w in zip(found, wanted, strict=True)])
        confidence = np.array([f.confidence for f in found], dtype=np.float64)
        fields[field] = FieldReport(
            float(right[field].mean()), float(confidence.mean()), calibration_error(confidence, right[field])
        )
    flagged = np.array([bool(review(schema, answer)) for answer in answers])
    wrong = ~right["category"]
    lengths = np.array([len(str(answer.fields["caption"].value)) for answer in answers])
    return Report(
        weights=name,
        num_pictures=len(answers),
        fields=fields,
        accuracy_of_unflagged=float(right["category"][~flagged].mean()) if (~flagged).any() else 0.0,
        flagged_share=float(flagged.mean()),
        flagged_share_of_wrong=float(flagged[wrong].mean()) if wrong.any() else 0.0,
        captions_in_length=float(((lengths >= 80) & (lengths <= 120)).mean()),
        tokens_per_answer=num_tokens / len(answers),
        pictures_per_s=len(answers) / seconds,
    )


def calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Mean distance between confidence and accuracy over `NUM_BINS` equal bins, weighted by their sizes."""
    bins = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    error = 0.0
    for number in np.unique(bins):
        inside = bins == number
        error += float(inside.mean()) * abs(float(confidence[inside].mean()) - float(right[inside].mean()))
    return error


def print_reports(reports: Sequence[Report]) -> None:
    print(f"{'weights':10}{'field':10}{'accuracy':>10}{'confidence':>12}{'cal. error':>12}")
    for report in reports:
        for name, field in report.fields.items():
            print(
                f"{report.weights:10}{name:10}{field.accuracy:10.2%}{field.mean_confidence:12.3f}"
                f"{field.calibration_error:12.3f}"
            )
    for report in reports:
        print(
            f"\n{report.weights}: {report.num_pictures} pictures, {report.pictures_per_s:.1f}/s, "
            f"{report.tokens_per_answer:.1f} tokens an answer, captions of 80-120 characters "
            f"{report.captions_in_length:.1%}\n  flagged for review {report.flagged_share:.1%}; "
            f"of the wrong categories {report.flagged_share_of_wrong:.1%} are flagged; "
            f"category accuracy of the rest {report.accuracy_of_unflagged:.2%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=10_000, help="number of test pictures")
    parser.add_argument("--batch", type=int, default=64, help="slots of the engine")
    parser.add_argument("--weights", choices=("float32", "bfloat16", "nf4"), nargs="+", default=["float32", "nf4"])
    parser.add_argument("--json", type=Path, help="also write the results here")
    args = parser.parse_args()
    reports = []
    for weights in args.weights:
        dtype = torch.bfloat16 if weights == "bfloat16" else torch.float32
        reports.append(measure("nf4" if weights == "nf4" else "none", dtype, args.limit, args.batch))
    print_reports(reports)
    if args.json:
        write_json(
            args.json,
            {
                "data": "Fashion-MNIST test split, label config garments.zh",
                "reports": [dataclasses.asdict(report) for report in reports],
            },
        )


if __name__ == "__main__":
    main()
