"""Quantizer plug-in: `BitsAndBytesConfig(load_in_4bit=True)` packs a Qwen3-VL by our rule, fused experts included.

transformers packs `nn.Linear` only, and silently leaves experts stored as one [experts, N, K] parameter in 16 bit:
56 GiB for a "4-bit" Qwen3-VL-30B-A3B. After `register()`, plain `from_pretrained` packs them too, tensor by tensor
while loading, to uint8 [experts, N, K/2] plus bfloat16 `_absmax` [experts, N, K/64] (the bytes and the order of
`bitsandbytes.functional.quantize_4bit` with blocks of 64); `save_pretrained` writes a checkpoint that reloads bit by
bit. absmax is the largest of 64 weights, so of a bfloat16 checkpoint it is a bfloat16 and nothing is lost; of others it
is rounded (docs/gpu.md has the error). config.json records the format as `nf4_experts`; earlier copies, whose absmax is
float32, load and give the same bits.
Both layouts of a checkpoint, the hub's [experts, K, N] and transformers' [experts, N, K], give the same bytes.

16-bit by rule: vision tower, router, head, embeddings. All other linears, attention's and a dense MLP's, are
bitsandbytes' own; a dense Qwen3-VL has no others, and records its format as `nf4_linears`. Any other model without such
experts is handled as without the plug-in.
Raises ModelFilesInvalid (tensors left over, missing or misshapen, before any is read) and UnsupportedModel.
"""

from __future__ import annotations

import copy
import logging
from typing import Any

import bitsandbytes as bnb
import torch
from torch import nn
from transformers.core_model_loading import ConversionOps
from transformers.integrations.bitsandbytes import Bnb4bitQuantize
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING
from transformers.quantizers.base import get_keys_to_not_convert
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer
from transformers.quantizers.quantizers_utils import get_module_from_name

from model_loader.errors import UnsupportedModel
from model_loader.experts import dispatch
from model_loader.experts.reference import BLOCK_SIZE
from model_loader.geometry import ARCHITECTURES
from model_loader.tensor_names import check_tensor_names

log = logging.getLogger(__name__)

PROJECTIONS = ("gate_up_proj", "down_proj")
ABSMAX_DTYPE = torch.bfloat16
EXPERTS_FORMAT = {"format": 2, "block_size": BLOCK_SIZE, "absmax_dtype": "bfloat16"}
EARLIER_FORMAT = {"format": 1, "block_size": BLOCK_SIZE, "absmax_dtype": "float32"}
LINEARS_FORMAT = {"format": 1, "block_size": BLOCK_SIZE, "absmax_dtype": "float32"}


def register() -> None:
    """Put the plug-in in the place of transformers' 4-bit bitsandbytes quantizer. Calling it again changes nothing."""
    AUTO_QUANTIZER_MAPPING["bitsandbytes_4bit"] = Nf4Quantizer
    dispatch.register()


def pack_experts(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pack [experts, N, K] to uint8 [experts, N, K/2] and bfloat16 absmax [experts, N, K/64].

    One expert at a time, so the scratch is that of one expert, whatever the device.
    """
    num_experts, rows, columns = weight.shape
    packed = torch.empty(num_experts, rows, columns // 2, dtype=torch.uint8, device=weight.device)
    absmax = torch.empty(num_experts, rows, columns // BLOCK_SIZE, dtype=ABSMAX_DTYPE, device=weight.device)
    for expert in range(num_experts):
        codes, scales = torch.ops.bitsandbytes.quantize_4bit.default(
            weight[expert].contiguous(), BLOCK_SIZE, "nf4", torch.uint8
        )
        packed[expert] = codes.view(rows, columns // 2)
        absmax[expert] = scales.view(rows, columns // BLOCK_SIZE)
    return packed, absmax


class QuantizeNf4(ConversionOps):  # type: ignore[misc]
    """The step transformers runs on each tensor to quantise, right after it was read."""

    def __init__(self, quantizer: Nf4Quantizer) -> None:
        self.linear = Bnb4bitQuantize(quantizer)

    def convert(
        self, input_dict: dict[str, Any], full_layer_name: str, model: nn.Module, **kwargs: Any
    ) -> dict[str, torch.Tensor]:
        if not _is_expert_weight(model, full_layer_name):
            linear: dict[str, torch.Tensor] = self.linear.convert(
                input_dict, full_layer_name=full_layer_name, model=model, **kwargs
            )
            return linear
        value = next(iter(input_dict.values()))
        packed, absmax = pack_experts(value[0] if isinstance(value, list) else value)
        return {full_layer_name: packed, full_layer_name + "_absmax": absmax}


class Nf4Quantizer(Bnb4BitHfQuantizer):  # type: ignore[misc]
    """transformers' 4-bit quantizer, taught about fused experts and about what of a Qwen3-VL stays in 16 bit."""

    keeps_rule = False
    quantization_config: Any  # BitsAndBytesConfig

    def _process_model_before_weight_loading(
        self, model: nn.Module, device_map: Any, checkpoint_files: list[str] | None = None, **kwargs: Any
    ) -> None:
        fused = fused_experts(model)
        has_rule = bool(fused) or getattr(model.config, "model_type", None) in ARCHITECTURES
        self.keeps_rule = has_rule and (not self.pre_quantized or _is_ours(model.config, has_experts=bool(fused)))
        if self.keeps_rule and not self.pre_quantized:
            self.quantization_config = _adapt(self.quantization_config, model)
        super()._process_model_before_weight_loading(model, device_map=device_map, **kwargs)
        if not self.keeps_rule:
            return
        for name, module in fused.items():
            for projection in PROJECTIONS:
                _declare(module, projection, f"{name}.{projection}", packed=self.pre_quantized)
        if checkpoint_files:
            check_tensor_names(model, checkpoint_files, quantizer=self)

    def param_needs_quantization(self, model: nn.Module, param_name: str, **kwargs: Any) -> bool:
        if self.keeps_rule and not self.pre_quantized and _is_expert_weight(model, param_name):
            return True
        return bool(super().param_needs_quantization(model, param_name, **kwargs))

    def get_quantize_ops(self) -> ConversionOps:
        return QuantizeNf4(self)

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        model = super()._process_model_after_weight_loading(model, **kwargs)
        if self.keeps_rule:
            has_experts = bool(fused_experts(model))
            _round_earlier_absmax(model)
            setattr(model.config, format_name(has_experts=has_experts), dict(_formats(has_experts=has_experts)[0]))
            model.requires_grad_(False)
            _keep_linears_exact(model)
            if has_experts and not str(model.config._experts_implementation).startswith(
                dispatch.EXPERTS_IMPLEMENTATION
            ):
                model.set_experts_implementation(dispatch.EXPERTS_IMPLEMENTATION)
        return model

    def _dequantize(self, model: Any, dtype: torch.dtype | None = None) -> Any:
        if self.keeps_rule:
            raise UnsupportedModel("packed weights cannot be unpacked in place; load the 16-bit checkpoint instead")
        return super()._dequantize(model, dtype=dtype)


def fused_experts(model: nn.Module) -> dict[str, nn.Module]:
    """Modules that hold all experts of a layer as [experts, N, K] parameters, in the one form the forward knows."""
    return {name: module for name, module in model.named_modules() if _is_fused(module)}


def _is_fused(module: nn.Module) -> bool:
    """Set by transformers' `use_experts_implementation`: gate and up joined, [out, in], no bias."""
    return (
        all(isinstance(getattr(module, projection, None), nn.Parameter) for projection in PROJECTIONS)
        and getattr(module, "is_transposed", None) is False
        and getattr(module, "has_bias", None) is False
        and bool(getattr(module, "has_gate", False) and getattr(module, "is_concatenated", False))
        and getattr(module, "gate_up_proj").ndim == 3  # noqa: B009 (mypy: nn.Module attributes are Tensor | Module)
    )


def _is_expert_weight(model: nn.Module, param_name: str) -> bool:
    module, name = get_module_from_name(model, param_name)
    return name in PROJECTIONS and hasattr(module, name + "_absmax")


def format_name(*, has_experts: bool) -> str:
    """Under which name config.json of a 4-bit copy records that it is this plug-in's, and in which format."""
    return "nf4_experts" if has_experts else "nf4_linears"


def _formats(*, has_experts: bool) -> tuple[dict[str, Any], ...]:
    """Those that are read. The first is written."""
    return (EXPERTS_FORMAT, EARLIER_FORMAT) if has_experts else (LINEARS_FORMAT,)


def _is_ours(config: Any, *, has_experts: bool) -> bool:
    """Whether a 4-bit checkpoint was packed by this plug-in; others keep experts in 16 bit, or pack the vision tower.

    Raises UnsupportedModel for a format of another version.
    """
    recorded = getattr(config, format_name(has_experts=has_experts), None)
    if recorded not in (None, *_formats(has_experts=has_experts)):
        raise UnsupportedModel(
            f"the checkpoint's packed weights are of a format this version does not read ({recorded}); "
            "delete that folder and quantise the original again"
        )
    return recorded is not None


def _round_earlier_absmax(model: nn.Module) -> None:
    """Bring the absmax of EARLIER_FORMAT, which is loaded in the dtype it was saved in, to what packing gives now."""
    for module in fused_experts(model).values():
        for projection in PROJECTIONS:
            absmax = getattr(module, projection + "_absmax")
            absmax.data = absmax.data.to(ABSMAX_DTYPE)


def _adapt(config: Any, model: Any) -> Any:
    """Return the user's config with NF4 as the type and the 16-bit modules named, as config.json will record it."""
    config = copy.deepcopy(config)
    if config.bnb_4bit_quant_type != "nf4":
        log.info("packing as NF4 instead of %s", config.bnb_4bit_quant_type)
        config.bnb_4bit_quant_type = "nf4"
    skip = config.llm_int8_skip_modules or get_keys_to_not_convert(model)
    config.llm_int8_skip_modules = sorted({*skip, "lm_head", *_vision_towers(model)})
    return config


def _vision_towers(model: Any) -> list[str]:
    vision_config = getattr(model.config, "vision_config", None)
    if vision_config is None:
        return []
    configs = ((name, getattr(module, "config", None)) for name, module in model.named_modules())
    towers = [name for name, config in configs if type(config) is type(vision_config)]
    return [min(towers, key=len)] if towers else []


def _keep_linears_exact(model: nn.Module) -> None:
    """Turn off bitsandbytes' repacking of linears at their first forward on a CPU with AVX512-BF16.

    It rounds absmax to bfloat16 in place (so a checkpoint saved afterwards has other bits), computes float32 models
    in bfloat16, and asserts that the rows are a multiple of 32.
    """
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def _declare(module: nn.Module, projection: str, name: str, *, packed: bool) -> None:
    """Register the absmax parameter on the meta device, and for a saved checkpoint the packed shape."""
    num_experts, rows, columns = getattr(module, projection).shape
    if columns % BLOCK_SIZE:
        raise UnsupportedModel(
            f"{name} has rows of {columns} weights, which is no multiple of {BLOCK_SIZE}: "
            "it cannot be packed as NF4; load this model with quantisation 'none'"
        )
    scales = torch.empty(num_experts, rows, columns // BLOCK_SIZE, dtype=ABSMAX_DTYPE, device="meta")
    module.register_parameter(projection + "_absmax", nn.Parameter(scales, requires_grad=False))
    if packed:
        codes = torch.empty(num_experts, rows, columns // 2, dtype=torch.uint8, device="meta")
        module.register_parameter(projection, nn.Parameter(codes, requires_grad=False))
