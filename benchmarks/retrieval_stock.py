"""label-studio-ml's own server, for benchmarks.retrieval: `python -m benchmarks.retrieval_stock --port P --folder F`.

A `LabelStudioMLBase` backend as its documentation shows one: `predict` goes through the tasks, fetches each picture
with `get_local_path` and answers it with transformers' `generate()`, one after the other; the reply holds all of them.
Model, prompt, pictures and grammar are those of `prelabel serve`. Served by Flask's server, as the `_wsgi.py` that
label-studio-ml generates does it. The model is loaded before it serves: Label Studio allows /setup three seconds.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from label_studio_ml.api import init_app
from label_studio_ml.model import LabelStudioMLBase
from PIL import Image

from backend.engine.messages import Picture, Sampling, Submit
from benchmarks.generate_baseline import GenerateBaseline
from label_config.answer import parse_answer
from label_config.prompt import PromptOptions, build_instruction
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
            shown = opened.convert("RGB")
        request = Submit(
            request_id=task["id"],
            schema=schema,
            instruction=build_instruction(schema, PromptOptions()),
            picture=Picture(shown.width, shown.height, shown.tobytes()),
            sampling=Sampling(seed=task["id"]),
        )
        [finished] = self.baseline.answer([request])
        answer = parse_answer(schema, finished.pieces, finished.probabilities, truncated=False)
        print(f"answered {task['id']}", flush=True)
        return prediction(schema, answer, [], "stock", str(task["id"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="label-studio-ml's model_dir")
    args = parser.parse_args()
    StockModel.baseline = GenerateBaseline(load_model("garments"), image_tokens=256)
    app = init_app(StockModel, model_dir=str(args.folder))
    app.run(host="127.0.0.1", port=args.port, debug=False)


if __name__ == "__main__":
    main()
