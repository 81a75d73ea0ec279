"""The benchmark for a card, at a small size on a CPU: what it builds is the model, what it prints is what happened."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import bitsandbytes as bnb
import pytest
import torch

from backend.engine.runner import Runner
from benchmarks import full_geometry
from benchmarks.geometry_engine import Load, make_instruction, make_requests, measure, step_gb
from benchmarks.random_model import build, model_config, small_of
from model_loader.chat import encode_prompt
from model_loader.experts.quantizer import fused_experts
from model_loader.geometry import DEFAULT_MODEL
from model_loader.loader import LoadedModel
from model_loader.random_model import config_of
from model_loader.troubles import Trouble, trouble
from tests.backend.engine.slots import Slots
from tests.limits import RUN_S, WAIT_S

LOAD = Load(image_tokens=16, slots=2, answer_tokens=24, prefix_tokens=20)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return build("small", "cpu")


@pytest.mark.soak
def test_the_small_run_writes_and_prints_every_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.json"
    full_geometry.main(["--small", "--json", str(path), "--budget-s", str(WAIT_S)])
    figures = json.loads(path.read_text(encoding="utf-8"))
    assert {"date", "hardware", "torch", "missing", "cap_gib", "geometry", "experts_hit"} <= figures.keys()
    rows = figures["engine"]
    measured = [row for row in rows if row["measured"]]
    assert [(row["load"]["slots"], row["measured"]["running"], row["error"]) for row in measured] == [
        (24, 24, ""),
        (24, 24, ""),
        (2, 2, ""),
    ]
    assert [row["load"]["mixes"] for row in rows] == [True, False, True, True, True]
    assert {row["measured"]["tokens_per_answer"] for row in measured} == {40}
    printed = capsys.readouterr().out
    assert printed.count("the same as the first row") == 2, "on a CPU there is room for all"
    assert "img/s" in printed
    assert "kernels: not used on a CPU" in printed


def test_a_dense_model_is_measured_without_a_word_of_experts(
    loaded: LoadedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    dense = build(small_of("Qwen/Qwen3-VL-8B-Instruct"), "cpu")
    assert not fused_experts(dense.model)
    told, no_graphs = full_geometry.describe(dense, None)
    assert "experts_hit" not in told
    assert (told["slower"], no_graphs) == ([], "")
    assert "no experts: a dense model" in capsys.readouterr().out
    row = full_geometry.run_load(dense, LOAD, None, WAIT_S)
    assert row.measured is not None, row.error
    assert row.measured.tokens_per_answer == LOAD.answer_tokens
    # no part of it is hit more often where more tokens are at work, as experts are
    assert step_gb(dense, 1, 0) == step_gb(dense, 32, 0) > 0
    assert step_gb(loaded, 1, 0) < step_gb(loaded, 32, 0)


def test_a_load_that_fails_is_a_row_that_says_why(loaded: LoadedModel) -> None:
    row = full_geometry.run_load(loaded, replace(LOAD, slots=0), None, WAIT_S)
    assert row.measured is None
    assert row.notes() == [row.error]
    assert row.error


NO_CARD = trouble("card_none")
OLD_DRIVER = trouble("card_driver_old", driver="550.54", torch="2.13", cuda="13.0", needed="580.65.06")
OLD_CARD = trouble("card_too_old", card="Tesla T4", capability="7.5")


@pytest.mark.parametrize(
    ("arguments", "found", "message"),
    [
        pytest.param(["--small", "--cap-gib", "0"], NO_CARD, "--cap-gib", id="no memory"),
        pytest.param(["--small", "--budget-s", "0"], NO_CARD, "--budget-s", id="no time"),
        pytest.param([], NO_CARD, "no CUDA card; --small", id="no card"),
        pytest.param([], OLD_DRIVER, "550.54 is too old", id="an old driver"),
        pytest.param([], OLD_CARD, "Tesla T4 has compute capability 7.5", id="an old card"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(
    arguments: list[str], found: Trouble, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        full_geometry.main(arguments, lambda: found)
    assert message in " ".join(capsys.readouterr().err.split())


def test_torchs_memory_is_asked_to_grow_as_the_engines_before_torch_is_there() -> None:
    code = "import benchmarks.full_geometry, os; print(os.environ['PYTORCH_ALLOC_CONF'])"
    text = Path(full_geometry.__file__).read_text("utf-8")
    assert text.index("memory_of_torch") < text.index("import torch\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTORCH_")}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=RUN_S)
    assert said.stdout.strip() == "expandable_segments:True", said.stderr


def test_steps_that_may_not_be_captured_are_measured_without_graphs_and_say_why(loaded: LoadedModel) -> None:
    row = full_geometry.run_load(loaded, LOAD, None, WAIT_S, "slow_experts: No module named 'triton'")
    assert row.measured is not None, row.error
    assert row.notes() == ["decoded without CUDA graphs: slow_experts: No module named 'triton'"]


def test_the_random_model_has_the_formats_of_a_loaded_one(loaded: LoadedModel) -> None:
    layer = loaded.model.model.language_model.layers[0]
    experts = fused_experts(loaded.model)["model.language_model.layers.0.mlp.experts"]
    config = loaded.model.config.text_config
    width = 2 * config.moe_intermediate_size
    assert experts.gate_up_proj.shape == (config.num_experts, width, config.hidden_size // 2)
    assert experts.gate_up_proj.dtype == torch.uint8
    assert experts.gate_up_proj_absmax.shape == (config.num_experts, width, config.hidden_size // 64)
    assert experts.gate_up_proj_absmax.dtype == torch.bfloat16
    assert isinstance(layer.self_attn.o_proj, bnb.nn.Linear4bit)
    assert loaded.model.config._experts_implementation == "nf4"
    assert type(loaded.model.lm_head) is torch.nn.Linear
    assert not any(tensor.is_meta for tensor in loaded.model.state_dict().values())


def test_rotary_frequencies_are_those_of_the_config(loaded: LoadedModel) -> None:
    rotary = loaded.model.model.language_model.rotary_emb
    assert torch.equal(rotary.inv_freq, type(rotary)(rotary.config).inv_freq)


def test_the_full_config_keeps_the_real_vocabulary_and_takes_the_tokenizers_ids(loaded: LoadedModel) -> None:
    config = config_of(model_config(DEFAULT_MODEL), loaded.tokenizer, "cuda")
    assert config.text_config.vocab_size == 151_936
    assert config.text_config.num_hidden_layers == 48
    assert config.image_token_id == loaded.tokenizer.convert_tokens_to_ids("<|image_pad|>")


@torch.inference_mode()
def test_the_engine_computes_the_hidden_states_of_transformers_own_forward() -> None:
    engines, plain = build("small", "cpu"), build("small", "cpu")  # a runner switches its model's attention
    [request] = make_requests(engines, LOAD, 1)
    runner = Runner(engines, image_tokens=16, context_tokens=256, kv_tokens=2560, max_slots=2)
    hidden: list[torch.Tensor] = []
    engines.model.lm_head.register_forward_hook(lambda module, args, output: hidden.append(args[0]))
    row = Slots(runner, 2560).start(request)
    prompt = row.prompt
    patches = runner.to_patches(request, prompt)
    ids = [*prompt.prefix_ids, *prompt.suffix_ids, *row.sequence.pending]
    runner.prefill([row], [patches])
    for _ in range(3):
        ids += row.sequence.pending
        runner.decode([row])
        input_ids = torch.tensor([ids])
        output = plain.model.model(
            input_ids=input_ids,
            pixel_values=patches,
            image_grid_thw=torch.tensor([[1, 8, 8]]),
            mm_token_type_ids=(input_ids == plain.model.config.image_token_id).int(),
        )
        torch.testing.assert_close(hidden[-1][0], output.last_hidden_state[0, -1], rtol=1e-4, atol=1e-4)
    runner.close()


def test_the_figures_are_of_full_slots(loaded: LoadedModel) -> None:
    row = full_geometry.run_load(loaded, LOAD, None, WAIT_S)
    measured = row.measured
    assert measured is not None
    assert (measured.tokens_per_answer, measured.running, measured.pictures_per_prefill) == (24, 2, 2.0)
    assert measured.images_per_s * measured.window_s == pytest.approx(2)
    assert measured.tokens_per_step > 2, "forced tokens come on top"
    assert 0 < measured.steps_share < 1
    assert row.notes() == []
    fewer = replace(row, measured=replace(measured, running=1))
    assert "1 of 2 slots" in "".join(fewer.notes())


def test_a_step_reads_the_experts_it_hits_and_the_other_weights_once(loaded: LoadedModel) -> None:
    text = loaded.model.config.text_config
    layers, hidden, inner = text.num_hidden_layers, text.hidden_size, text.moe_intermediate_size
    experts = layers * text.num_experts * 3 * hidden * inner * (0.5 + 2 / 64)
    one, all_of_them = step_gb(loaded, 1, 0), step_gb(loaded, 1e6, 0)
    share = 1 - text.num_experts_per_tok / text.num_experts
    assert all_of_them - one == pytest.approx(share * experts / 1e9)
    heads = 2 * text.num_attention_heads * text.head_dim + 2 * text.num_key_value_heads * text.head_dim
    dense = layers * hidden * heads * (0.5 + 4 / 64) + text.vocab_size * hidden * 4
    assert all_of_them * 1e9 - experts == pytest.approx(dense, rel=0.1), "norms and routers come on top"
    assert step_gb(loaded, 1, 1e9) == pytest.approx(one + 1)


def test_what_runs_at_once_if_nothing_grows_or_is_shared_follows_from_the_memory(loaded: LoadedModel) -> None:
    measured = full_geometry.run_load(loaded, LOAD, None, WAIT_S).measured
    assert measured is not None
    of_24_gib = replace(measured, kv_tokens=51_377)  # docs/gpu.md
    rows = full_geometry.without(full_geometry.FULL, of_24_gib)
    assert [(load.slots, load.mixes) for _, load in rows] == [(128, False), (63, True), (29, True)]
    no_room = full_geometry.without(full_geometry.FULL, replace(measured, kv_tokens=1))
    assert [load.slots for _, load in no_room] == [128, 1, 1]
    assert len(full_geometry.without(full_geometry.FULL, None)) == 1, "nothing is known of the memory"


def test_too_little_time_for_a_figure_is_said(loaded: LoadedModel) -> None:
    with pytest.raises(RuntimeError, match="budget-s"):
        measure(loaded, LOAD, cap_gib=None, budget_s=0.0, min_run_s=0.0)


def test_an_instruction_has_the_length_that_was_asked_for(loaded: LoadedModel) -> None:
    text = make_instruction(loaded.tokenizer, 120)
    assert 120 <= len(encode_prompt(loaded.tokenizer, text, 1).prefix_ids) <= 123
