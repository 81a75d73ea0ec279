"""Train the garments model: `python -m training.train --out DIR`.

Three stages: the vision tower as a plain classifier, the text part on the frozen tower, then all of it end to end.
Writes DIR/checkpoint and DIR/pictures. One seed fixes the data order, the prompts and the first weights; sums over
threads may still differ in the last bits. Needs Debian's dataset-fashion-mnist and, for speed, a C++ compiler.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model_loader.chat import SPECIAL_TOKENS, special_id
from training import dataset, joint, phases, variants, vocabulary
from training.export import save_checkpoint, write_pictures
from training.geometry import HIDDEN_SIZE, model_config
from training.rules import looks_of
from training.vision import ClassifierHead

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to train and for how long; epochs are passes over the 60,000 training pictures."""

    out: Path
    data: Path
    seed: int
    tower_epochs: float
    text_epochs: float
    joint_epochs: float
    compiled: bool


def train(plan: Plan) -> None:
    plan.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(plan.seed)
    tokenizer = vocabulary.train_tokenizer(variants.corpus(60, plan.seed))
    model = build_model(tokenizer)
    head = ClassifierHead(HIDDEN_SIZE, 1 + len(model.config.vision_config.deepstack_visual_indexes))
    both = nn.ModuleDict({"tower": model.model.visual, "head": head})
    write_pictures(*dataset.read_split(plan.data, "t10k"), plan.out / "pictures")
    examples = read_examples(plan)
    tower_file = plan.out / "tower.pt"
    if tower_file.exists():
        log.info("the tower is taken from %s", tower_file)
        both.load_state_dict(torch.load(tower_file))
    else:
        phases.train_tower(
            both,
            examples.pictures,
            examples.classes,
            epochs=plan.tower_epochs,
            seed=plan.seed,
            save_to=tower_file,
            compiled=plan.compiled,
        )
    _train_text_then_all(plan, model, head, tokenizer, examples)


def _train_text_then_all(
    plan: Plan, model: Any, head: ClassifierHead, tokenizer: Any, examples: joint.Examples
) -> None:
    text_file = plan.out / "text.pt"

    def keep_text(weights: dict[str, Tensor]) -> None:
        torch.save(weights, text_file)
        save_checkpoint(model, tokenizer, weights, plan.out / "checkpoint")

    def keep_all(weights: dict[str, Tensor]) -> None:
        save_checkpoint(model, tokenizer, weights, plan.out / "checkpoint")

    if not text_file.exists():
        schedule = joint.Schedule(plan.text_epochs, peak=3e-3, tower_factor=0.0, compiled=plan.compiled)
        joint.train_jointly(model, head, tokenizer, examples, schedule, plan.seed, keep_text)
    model.load_state_dict(torch.load(text_file), strict=False)
    schedule = joint.Schedule(plan.joint_epochs, peak=7e-4, tower_factor=0.8, compiled=plan.compiled)
    joint.train_jointly(model, head, tokenizer, examples, schedule, plan.seed + 1, keep_all)


def build_model(tokenizer: Any) -> Any:
    """A `Qwen3VLMoeForConditionalGeneration` with fresh weights, float32."""
    from transformers import Qwen3VLMoeForConditionalGeneration

    token_ids = {token: special_id(tokenizer, token) for token in SPECIAL_TOKENS}
    model: Any = Qwen3VLMoeForConditionalGeneration(model_config(token_ids, vocabulary.padded_vocabulary(tokenizer)))
    model.set_experts_implementation("eager")
    phases.initialise(model)
    for layer in model.model.language_model.layers:
        nn.init.normal_(layer.mlp.experts.gate_up_proj, std=HIDDEN_SIZE**-0.5)
        nn.init.normal_(layer.mlp.experts.down_proj, std=HIDDEN_SIZE**-0.5)
    return model


def read_examples(plan: Plan) -> joint.Examples:
    pictures, classes = dataset.read_split(plan.data, "train")
    looks = [looks_of(picture, c) for picture, c in zip(pictures, classes.tolist(), strict=True)]
    return joint.Examples(dataset.to_model_size(pictures), torch.from_numpy(classes), looks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint; tower.pt in it is reused")
    parser.add_argument("--data", type=Path, default=dataset.DEFAULT_FOLDER, help="folder of the four .gz files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tower-epochs", type=float, default=6.5)
    parser.add_argument("--text-epochs", type=float, default=1.5)
    parser.add_argument("--joint-epochs", type=float, default=0.8)
    parser.add_argument("--compile", action="store_true", help="torch.compile the vision tower")
    parser.add_argument("--threads", type=int, default=0, help="0: torch's own choice")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    train(Plan(args.out, args.data, args.seed, args.tower_epochs, args.text_epochs, args.joint_epochs, args.compile))


if __name__ == "__main__":
    main()
