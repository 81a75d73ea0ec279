"""What the two training phases share: the schedule, the moving average of the weights, and phase 1 itself."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from training import dataset, vision
from training.geometry import PATCH_SIZE_PX, SQUARE_SIDE_PX

log = logging.getLogger(__name__)

GRID = (SQUARE_SIDE_PX // PATCH_SIZE_PX, SQUARE_SIDE_PX // PATCH_SIZE_PX)


def one_cycle(step: int, num_steps: int, warmup: float = 0.1, floor: float = 0.01) -> float:
    """The learning rate as a share of its peak: a linear rise, then half a cosine down to `floor`."""
    rise = max(1, int(warmup * num_steps))
    if step < rise:
        return (step + 1) / rise
    done = (step - rise) / max(1, num_steps - rise)
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


class MovingAverage:
    """An exponential moving average of a module's parameters, which generalises better than the last step."""

    def __init__(self, module: nn.Module, decay: float = 0.998) -> None:
        self._decay = decay
        self._source = dict(module.named_parameters())
        self._average = {name: p.detach().clone() for name, p in self._source.items()}
        self._num_updates = 0

    @torch.no_grad()
    def update(self) -> None:
        self._num_updates += 1
        weight = 1.0 - min(self._decay, self._num_updates / (self._num_updates + 10))
        torch._foreach_lerp_(list(self._average.values()), [p.detach() for p in self._source.values()], weight)

    def state_dict(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self._average.items()}


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices are decayed; biases, norms and embeddings are not."""
    matrices = [p for n, p in module.named_parameters() if p.ndim >= 2 and "embed" not in n]
    others = [p for n, p in module.named_parameters() if p.ndim < 2 or "embed" in n]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def shuffled_batches(num_rows: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Row numbers of one epoch in batches; an incomplete last batch is left out."""
    order = torch.randperm(num_rows, generator=generator)
    for start in range(0, num_rows - batch + 1, batch):
        yield order[start : start + batch]


def initialise(module: nn.Module) -> None:
    """Xavier weights: transformers' fixed 0.02 is meant for widths of thousands, not a hundred."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def train_tower(
    both: nn.ModuleDict,
    pictures: Tensor,
    classes: Tensor,
    *,
    epochs: float,
    seed: int,
    save_to: Path,
    peak: float = 2e-3,
    compiled: bool = False,
) -> None:
    """Phase 1: teach `both["tower"]` and `both["head"]` (in place) the ten classes. pictures uint8 [N,32,32].

    Saves the averaged weights every 200 steps and at the end, and leaves them in `both`.
    """
    tower, head = both["tower"], both["head"]
    generator = torch.Generator().manual_seed(seed)
    constants = vision.grid_constants(tower, GRID)

    def classify(patches: Tensor, targets: Tensor) -> Tensor:
        logits = head(*vision.run_tower_with(tower, patches, *constants))
        return F.cross_entropy(logits, targets, label_smoothing=0.02)

    loss_of = torch.compile(classify) if compiled else classify
    average = MovingAverage(both)
    optimiser = torch.optim.AdamW(parameter_groups(both, 0.05), lr=peak, betas=(0.9, 0.98), fused=True)
    batch, step, started = 128, 0, time.monotonic()
    num_steps = int(epochs * (len(pictures) // batch))
    while step < num_steps:
        for rows in shuffled_batches(len(pictures), batch, generator):
            for group in optimiser.param_groups:
                group["lr"] = peak * one_cycle(step, num_steps)
            seen = dataset.augment(dataset.normalise(pictures[rows]), generator)
            loss = loss_of(dataset.to_patches(seen)[0], classes[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(both.parameters(), 1.0)
            optimiser.step()
            average.update()
            step += 1
            if step % 50 == 0:
                speed = step * batch / (time.monotonic() - started)
                log.info("tower: step %d/%d loss %.4f, %.0f pictures/s", step, num_steps, loss, speed)
            if step % 200 == 0 or step == num_steps:
                torch.save(average.state_dict(), save_to)
            if step == num_steps:
                break
    both.load_state_dict(average.state_dict(), strict=False)
