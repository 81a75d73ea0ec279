"""How packed experts are run. `register()` makes `experts_implementation="nf4"` known to transformers.

`reference` is the definition in plain torch; `fused` and `dequantise` are the Triton paths; `dispatch` picks one by
the device's `plan`, which `calibrate` measures. Triton is imported when a call first needs it.
"""

from __future__ import annotations

from model_loader.experts.calibration import calibrate
from model_loader.experts.dispatch import EXPERTS_IMPLEMENTATION, left_out, nf4_experts_forward, register
from model_loader.experts.linear import use_fused_linears
from model_loader.experts.plan import ExpertsPlan, never_dequantise
from model_loader.experts.reference import dequantise_nf4

__all__ = [
    "EXPERTS_IMPLEMENTATION",
    "ExpertsPlan",
    "calibrate",
    "dequantise_nf4",
    "left_out",
    "never_dequantise",
    "nf4_experts_forward",
    "register",
    "use_fused_linears",
]
