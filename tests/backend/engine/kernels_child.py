"""What a start finds of its kernels, and what it would tell, as JSON. Runs in a process whose libraries are others."""

import json
from types import SimpleNamespace

import bitsandbytes as bnb
import torch

from backend.engine.self_check import attention_wrong
from backend.engine.start import in_short
from model_loader.experts.linear import FusedLinear4bit
from model_loader.experts.plan import default_plan
from model_loader.experts.self_check import SelfCheck
from model_loader.experts.trials import Bench
from tests.model_loader.packed import packed_module

HEADS = SimpleNamespace(num_attention_heads=4, num_key_value_heads=2, head_dim=32)


def main() -> None:
    linear = bnb.nn.Linear4bit(64, 64, bias=False, compute_dtype=None, compress_statistics=False, quant_type="nf4")
    linear = linear.to("cpu").requires_grad_(False)
    linear.__class__ = FusedLinear4bit
    plan = SelfCheck(Bench(packed_module(3, 64, 64), 2, torch.float32), [linear]).checked(default_plan((8, 9)))
    found = {**dict(plan.slower), "slow_attention": attention_wrong(HEADS, "cpu", torch.float32)}
    told = in_short(found, is_dense=False)
    print(json.dumps({"slower": told, "path": plan.path(1), "linears": plan.linear_max_rows}))
