"""bitsandbytes' 4-bit linears through the Triton kernel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import bitsandbytes as bnb
import pytest
import torch

from model_loader.experts import use_fused_linears
from model_loader.experts.linear import FusedLinear4bit, is_in_format
from model_loader.experts.plan import REFERENCE, plan_for, set_plan
from model_loader.experts.reference import dequantise_nf4
from tests.model_loader.packed import relative_error
from tests.model_loader.test_experts_kernels import TOLERANCE

CPU = torch.device("cpu")


def linear4bit(
    depth: int, columns: int, *, bias: bool = False, double: bool = False, quant_type: str = "nf4"
) -> torch.nn.Module:
    torch.manual_seed(depth * columns)
    module = bnb.nn.Linear4bit(
        depth, columns, bias=bias, compute_dtype=None, compress_statistics=double, quant_type=quant_type
    )
    module.support_avx512bf16_for_cpu = False
    return module.to(CPU).requires_grad_(False)


def exact(module: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    state = module.weight.quant_state
    columns = state.shape[0]
    weight = dequantise_nf4(module.weight.data.view(columns, -1), state.absmax.view(columns, -1), torch.float64)
    result = x.double() @ weight.T
    return result if module.bias is None else result + module.bias.double()


@pytest.fixture
def _small_calls_fused() -> Iterator[None]:
    """Let the kernel serve up to 100 rows on the CPU, where the plan has it serve none."""
    set_plan(CPU, replace(REFERENCE, linear_max_rows=100))
    yield
    set_plan(CPU, REFERENCE)


@pytest.mark.usefixtures("_small_calls_fused")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("shape", "columns", "bias"),
    [
        pytest.param((1, 64), 48, False, id="one row"),
        pytest.param((7, 192), 100, True, id="a bias, columns that fill no tile"),
        pytest.param((1, 17, 128), 64, False, id="batch dimension"),
        pytest.param((33, 64), 200, True, id="33 rows"),
        pytest.param((65, 64), 300, False, id="65 rows"),
        pytest.param((101, 64), 30, True, id="more rows than the plan fuses"),
    ],
)
def test_output_equals_float64_arithmetic(shape: tuple[int, ...], columns: int, bias: bool, dtype: torch.dtype) -> None:
    module = linear4bit(shape[-1], columns, bias=bias)
    module.__class__ = FusedLinear4bit
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    output = module(x)
    assert (output.shape, output.dtype) == ((*shape[:-1], columns), dtype)
    assert relative_error(output, exact(module, x)) < TOLERANCE[dtype]


@pytest.mark.usefixtures("_small_calls_fused")
def test_no_row_gives_no_row() -> None:
    module = linear4bit(64, 32)
    module.__class__ = FusedLinear4bit
    assert module(torch.empty(2, 0, 64)).shape == (2, 0, 32)


@pytest.mark.usefixtures("_small_calls_fused")
def test_gradients_are_left_to_bitsandbytes() -> None:
    module = linear4bit(64, 32)
    module.__class__ = FusedLinear4bit
    x = torch.randn(3, 64, requires_grad=True)
    module(x).sum().backward()
    assert x.grad is not None


def test_a_model_on_a_cpu_is_left_alone() -> None:
    model = torch.nn.Sequential(linear4bit(64, 32))
    assert use_fused_linears(model) == 0
    assert type(model[0]) is bnb.nn.Linear4bit
    assert plan_for(CPU) is REFERENCE


def test_saved_tensors_stay_the_same() -> None:
    module = linear4bit(64, 32, bias=True)
    before = module.state_dict()
    module.__class__ = FusedLinear4bit
    after = module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("module", "fits"),
    [
        pytest.param(linear4bit(128, 32, bias=True), True, id="NF4"),
        pytest.param(linear4bit(128, 32, quant_type="fp4"), False, id="FP4"),
        pytest.param(linear4bit(128, 32, double=True), False, id="double quantisation"),
        pytest.param(linear4bit(96, 32), False, id="rows that split a block"),
        pytest.param(bnb.nn.Linear4bit(64, 32, quant_type="nf4"), False, id="not packed yet"),
    ],
)
def test_only_the_kernels_format_is_taken(module: torch.nn.Module, fits: bool) -> None:
    assert is_in_format(module) is fits


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("depth", "columns"), [(2048, 4096), (2048, 512), (4096, 2048), (4096, 12_288), (12_288, 4096), (2560, 9728)]
)
@pytest.mark.parametrize("rows", [1, 8, 17, 64, 300, 1024, 1500])
def test_compiled_linear_equals_the_exact_one_at_the_published_models_sizes(
    depth: int, columns: int, rows: int
) -> None:
    model = torch.nn.Sequential(
        bnb.nn.Linear4bit(depth, columns, bias=False, compress_statistics=False, quant_type="nf4")
    )
    model.cuda()
    assert use_fused_linears(model) == 1
    x = torch.randn(rows, depth, device="cuda", dtype=torch.bfloat16)
    assert relative_error(model(x), exact(model[0], x)) < 1e-2
