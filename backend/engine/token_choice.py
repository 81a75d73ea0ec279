"""The next token of each row from its logits, under its grammar's mask, on the device the logits are on.

Labels take the most probable token; texts are sampled from the nucleus (Holtzman et al. 2020) of the most probable
`MAX_CANDIDATES`. Every random number comes from outside, so that a row's choice depends on nothing but itself.
One transfer brings tokens and probabilities back.
"""

from __future__ import annotations

from collections.abc import Sequence as Rows
from dataclasses import dataclass

import torch

MAX_CANDIDATES = 256
MIN_TEMPERATURE = 0.01  # below it sampling is the most probable token, but for overflows


@dataclass(frozen=True, slots=True)
class Draw:
    """How one row is sampled. `uniform` is its random number in [0, 1)."""

    temperature: float
    top_p: float
    uniform: float

    @property
    def is_random(self) -> bool:
        return self.temperature >= MIN_TEMPERATURE


GREEDY = Draw(0.0, 1.0, 0.0)


def choose_tokens(logits: torch.Tensor, mask: torch.Tensor, draws: Rows[Draw]) -> tuple[list[int], list[float]]:
    """logits: [rows, vocabulary]; mask: [rows, words] int32 on the same device, one bit a token, set where allowed.

    Returns each row's token, and its probability renormalised over what was allowed (without the temperature); a
    probability is NaN where the logits were no numbers.
    """
    allowed = unpack_mask(mask, logits.shape[1])
    logits = logits.float().masked_fill(~allowed, -torch.inf)
    probabilities = torch.softmax(logits, dim=-1)
    tokens = probabilities.argmax(dim=-1)
    if any(draw.is_random for draw in draws):
        tokens = _sample(logits, tokens, draws)
    chosen = probabilities.gather(1, tokens[:, None])[:, 0]
    both = torch.stack([tokens.int(), chosen.view(torch.int32)]).cpu()
    return both[0].tolist(), both[1].view(torch.float32).tolist()


def unpack_mask(mask: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """[rows, words] int32 bitmask -> [rows, vocabulary] bool, on the same device."""
    bits = torch.arange(32, device=mask.device, dtype=torch.int32)
    return ((mask[:, :, None] >> bits) & 1).bool().flatten(1)[:, :vocabulary]


def _sample(logits: torch.Tensor, best: torch.Tensor, draws: Rows[Draw]) -> torch.Tensor:
    """Draw a token for the rows that are random; the others keep `best` [rows]."""
    settings = torch.tensor(
        [[max(draw.temperature, MIN_TEMPERATURE), draw.top_p, draw.uniform, draw.is_random] for draw in draws],
        device=logits.device,
    )
    temperature, top_p, uniform, is_random = settings.unbind(dim=1)
    scores, candidates = logits.topk(min(MAX_CANDIDATES, logits.shape[1]), dim=-1)  # ordered, best first
    ordered = torch.softmax(scores / temperature[:, None], dim=-1)
    before = ordered.cumsum(dim=-1) - ordered
    kept = torch.where(before < top_p[:, None], ordered, 0.0)
    kept[:, 0] = ordered[:, 0]
    reached = kept.cumsum(dim=-1)
    threshold = uniform[:, None] * reached[:, -1:]
    index = (reached <= threshold).sum(dim=-1, keepdim=True).clamp(max=candidates.shape[1] - 1)
    # rounding may carry the index past the nucleus: the last candidate kept is the limit
    index = torch.minimum(index, (kept > 0).sum(dim=-1, keepdim=True) - 1).clamp(min=0)
    return torch.where(is_random.bool(), candidates.gather(1, index)[:, 0], best)
