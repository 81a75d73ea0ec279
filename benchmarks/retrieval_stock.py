"""label-studio-ml's own server, for benchmarks.retrieval: `python -m benchmarks.retrieval_stock PORT FOLDER`.

A `LabelStudioMLBase` backend as its documentation shows one: `predict` goes through the tasks, fetches each picture
with `get_local_path` and answers it with transformers' `generate()`, one after the other; the reply holds all of them.
Model, prompt, pictures and grammar are those of `prelabel serve`. Served by Flask's server, as the `_wsgi.py` that
label-studio-ml generates does it. The model is loaded before it serves: Label Studio allows /setup three seconds.
"""

from __future__ import annotations

import sys
from typing import Any

from label_studio_ml.api import init_app
from label_studio_ml.model import LabelStudioMLBase
from PIL import Image

from benchmarks.generate_baseline import GenerateBaseline
from benchmarks.pictures import request_about
from label_config.answer import parse_answer
from label_config.regions import prediction
from model_loader.loader import load_model
from training.variants import shipped_schema


class StockModel(LabelStudioMLBase):  # type: ignore[misc]
    """Prints a line for each picture it has answered."""

    baseline: GenerateBaseline

    def predict(self, tasks: list[dict[str, Any]], **kwargs: Any) -> list[dict[str, Any]]:
        return [self._answer(task) for task in tasks]

    def _answer(self, task: dict[str, Any]) -> dict[str, Any]:
        schema = shipped_schema("zh")
        with Image.open(self.get_local_path(task["data"][schema.image_key])) as opened:
            [finished] = self.baseline.answer([request_about(task["id"], opened)])
        answer = parse_answer(schema, finished.pieces, finished.probabilities, truncated=False)
        print(f"answered {task['id']}", flush=True)
        return prediction(schema, answer, [], "stock", str(task["id"]))


def main() -> None:
    port, folder = sys.argv[1:]  # the folder is label-studio-ml's model_dir
    StockModel.baseline = GenerateBaseline(load_model("garments"), image_tokens=256)
    init_app(StockModel, model_dir=folder).run(host="127.0.0.1", port=int(port), debug=False)


if __name__ == "__main__":
    main()
