"""Before a kernel serves, it is compared with plain torch at the model's own shapes: what is wrong is not used.

A kernel that computes something else than it should would give fluent nonsense. So every launch shape that a plan may
use runs once with random inputs, and what differs by more than rounding, does not build or has no room falls back
alone: a step's tokens to the next larger step, packed weights to unpacked ones and the other way round, both to plain
torch, linears to bitsandbytes. Each is told in the plan's `slower`. Raises what a card raises that has failed.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from dataclasses import replace

import torch

from model_loader.experts.linear import FusedLinear4bit
from model_loader.experts.plan import ExpertsPlan, Step
from model_loader.experts.trials import Bench, LinearTrial, Path, Run, Trial, run_trial
from model_loader.load_errors import is_fault

log = logging.getLogger(__name__)

TOLERANCE = 0.03  # of the norm, kernel to reference: rounding to bfloat16 gives a third of it, a wrong kernel about 1
MAX_SAID = 300
LINEAR_ROWS = (1, 32, 256, 257)
"""One for each launch shape of `fused.fused_linear`."""


def difference(output: torch.Tensor, expected: torch.Tensor) -> str:
    """Return by how much `output` is not `expected`, "" where it is, up to TOLERANCE of the norm. NaN is not."""
    error = float((output.float() - expected.float()).norm() / expected.float().norm())
    return "" if error < TOLERANCE else f"off by {error:.2f} of the norm"


def said_of(error: BaseException) -> str:
    """Of others than torch's and Triton's own errors, the text alone tells nothing: "Expecting value"."""
    said = " ".join(str(error).split())
    is_telling = isinstance(error, RuntimeError | ArithmeticError | OSError | ImportError) and said
    return (said if is_telling else f"{type(error).__name__}: {said}")[:MAX_SAID]


class SelfCheck:
    """Of one model's kernels. `linears`: those that would run ours, one of each shape. Nothing is looked at twice."""

    def __init__(self, bench: Bench, linears: Sequence[FusedLinear4bit], run: Run = run_trial) -> None:
        """`run` runs a trial; tests put a kernel there that is wrong."""
        self._bench, self._linears, self._run = bench, linears, run
        self._found: dict[Hashable, str] = {}

    def checked(self, plan: ExpertsPlan) -> ExpertsPlan:
        """Return `plan` less what cannot be used here."""
        wrong = {step: said for step in plan.fused if (said := self._experts("fused", step))}
        fused = tuple(step for step in plan.fused if step not in wrong)
        first = next(iter(wrong.values()), "")
        about_dense = self._experts("dequantised", plan.dense) if plan.dense else ""
        dense = None if about_dense else plan.dense
        about_linears = self._of_linears() if plan.linear_max_rows else ""
        slower = dict(plan.slower)
        if not fused and dense is None and (first or about_dense):
            slower = {"slow_experts": first or about_dense}  # worse than what was told of either
        elif first:
            slower.setdefault("slow_steps" if fused else "slow_packed_experts", first)
        elif about_dense:
            slower.setdefault("slow_long_prefills", about_dense)
        if about_linears:
            slower["slow_linears"] = about_linears
        linear_max_rows = 0 if about_linears else plan.linear_max_rows
        return replace(
            plan, fused=fused, dense=dense, linear_max_rows=linear_max_rows, slower=tuple(sorted(slower.items()))
        )

    def _experts(self, path: Path, step: Step) -> str:
        """With as many tokens as fill more than one tile of an expert, if the step serves so many, and with so few that
        each route has a tile of its own, which `tiles` then numbers otherwise: where smaller steps cannot be used, it
        serves these, too."""
        module, top_k = self._bench.module, self._bench.top_k
        if module is None:
            return ""  # a dense model never asks for it
        num_experts = module.down_proj.shape[0]
        few, several = max(1, num_experts // top_k), step.block_m * num_experts // top_k + 1
        for tokens in (min(step.max_tokens, several), min(step.max_tokens, few)):
            if said := self._look((path, step, tokens), self._bench.trial(path, tokens, step)):
                return said
        return ""

    def _of_linears(self) -> str:
        trials = [
            ((module.in_features, module.out_features, rows), self._bench.linear("fused", module, rows))
            for module in self._linears
            for rows in LINEAR_ROWS
        ]
        return next((said for key, trial in trials if (said := self._look(key, trial))), "")

    def _look(self, key: Hashable, trial: Trial | LinearTrial) -> str:
        if key not in self._found:
            try:
                self._found[key] = difference(self._run(trial), trial.expected())
            except Exception as error:  # a kernel's border: whatever it is, plain torch computes without it
                if is_fault(error):
                    raise
                self._found[key] = said_of(error)
            if said := self._found[key]:
                log.error("a kernel is not used (%s, %d tokens): %s", trial.path, trial.tokens, said)
        return self._found[key]
