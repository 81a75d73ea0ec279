"""How packed experts are run. `register()` makes `experts_implementation="nf4"` known to transformers."""

from __future__ import annotations

from model_loader.experts.reference import EXPERTS_IMPLEMENTATION, dequantise_nf4, nf4_experts_forward, register

__all__ = ["EXPERTS_IMPLEMENTATION", "dequantise_nf4", "nf4_experts_forward", "register"]
