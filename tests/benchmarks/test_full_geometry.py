"""The benchmark for a card, at a small size on a CPU: what it builds is the model, what it prints is what happened."""

import json
from dataclasses import replace
from pathlib import Path

import bitsandbytes as bnb
import pytest
import torch

from backend.engine.runner import Runner
from benchmarks import experts_baselines, full_geometry
from benchmarks.geometry_engine import Load, make_instruction, make_requests, measure
from benchmarks.random_model import build, model_config
from model_loader.chat import encode_prompt
from model_loader.experts import reference
from model_loader.loader import LoadedModel
from model_loader.nf4 import fused_experts
from tests.limits import WAIT_S

LOAD = Load(image_tokens=16, slots=3, answer_tokens=24, prefix_tokens=20)
MEASURED = {"images_per_s", "tokens_per_s", "decode_step_ms", "prefill_ms", "vision_ms", "kv_tokens", "forced_share"}


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return build("small", "cpu")


def test_the_small_run_writes_and_prints_every_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.json"
    arguments = ["--small", "--device", "cpu", "--json", str(path), "--image-tokens", "16", "--slots", "3"]
    arguments += ["--budget-s", str(WAIT_S)]
    full_geometry.main([*arguments, "--answer-tokens", "24", "--bandwidth-gbs", "20", "--tflops", "0.05"])
    figures = json.loads(path.read_text(encoding="utf-8"))
    assert {"date", "hardware", "torch", "cap_gib", "geometry", "answer_tokens", "experts_hit"} <= figures.keys()
    assert [(row["image_tokens"], row["slots"], row["error"]) for row in figures["engine"]] == [(16, 3, "")]
    for row in figures["engine"]:
        assert row["measured"].keys() >= MEASURED
        assert row["measured"]["tokens_per_answer"] == 24
        assert row["measured"]["running"] == row["slots"]
        assert 0 < row["share_of_ideal"] < 1
    timed = {timing["name"]: timing for timing in figures["experts"] if timing["tokens"] == 32}
    assert timed["ours: fused"]["ms"] is None
    assert timed["ours: fused"]["reason"]
    assert timed["torch reference"]["ms"] > 0
    assert timed["bitsandbytes, each expert"]["error"] < 1e-5
    printed = capsys.readouterr().out
    assert "img/s" in printed
    assert "geometry small" in printed
    assert "torch reference" in printed


def test_a_load_that_fails_is_a_row_that_says_why(loaded: LoadedModel) -> None:
    row = full_geometry.run_load(loaded, replace(LOAD, slots=0), None, None, WAIT_S)
    assert row.measured is None
    assert full_geometry.notes(row) == [row.error]
    assert row.error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--image-tokens", "250"], "square number", id="an image that is no square"),
        pytest.param(["--slots", "0"], "--slots", id="no slots"),
        pytest.param(["--tflops", "100"], "go together", id="half a data sheet"),
    ],
)
def test_a_wrong_option_is_refused_by_name(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        full_geometry.main(["--small", "--device", "cpu", *arguments])
    assert message in capsys.readouterr().err


def test_the_full_geometry_needs_a_card(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        full_geometry.main(["--device", "cpu"])
    assert "--small" in capsys.readouterr().err


def test_the_random_model_has_the_formats_of_a_loaded_one(loaded: LoadedModel) -> None:
    layer = loaded.model.model.language_model.layers[0]
    experts = fused_experts(loaded.model)["model.language_model.layers.0.mlp.experts"]
    config = loaded.model.config.text_config
    width = 2 * config.moe_intermediate_size
    assert experts.gate_up_proj.shape == (config.num_experts, width, config.hidden_size // 2)
    assert experts.gate_up_proj.dtype == torch.uint8
    assert experts.gate_up_proj_absmax.shape == (config.num_experts, width, config.hidden_size // 64)
    assert experts.gate_up_proj_absmax.dtype == torch.float32
    assert isinstance(layer.self_attn.o_proj, bnb.nn.Linear4bit)
    assert loaded.model.config._experts_implementation == "nf4"
    assert type(loaded.model.lm_head) is torch.nn.Linear
    assert not any(tensor.is_meta for tensor in loaded.model.state_dict().values())


def test_rotary_frequencies_are_those_of_the_config(loaded: LoadedModel) -> None:
    rotary = loaded.model.model.language_model.rotary_emb
    assert torch.equal(rotary.inv_freq, type(rotary)(rotary.config).inv_freq)


def test_the_full_config_keeps_the_real_vocabulary_and_takes_the_tokenizers_ids(loaded: LoadedModel) -> None:
    config = model_config("30b", loaded.tokenizer)
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
    prompt = runner.prompts.encode(request)
    row = runner.start(request, prompt, 0)
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


def test_the_forced_share_is_that_of_tokens_without_a_step(loaded: LoadedModel) -> None:
    row = full_geometry.run_load(loaded, LOAD, None, None, WAIT_S)
    measured = row.measured
    assert measured is not None
    assert row.share_of_ideal is None  # this machine's data sheet is not known
    assert measured.tokens_per_answer == LOAD.answer_tokens
    assert 0.2 < measured.forced_share < 0.9
    assert measured.tokens_per_step >= measured.running * 0.99  # every row gets a token, forced ones come on top
    assert measured.images_per_s * measured.window_s == pytest.approx(measured.answers_in_window)
    assert full_geometry.notes(row) == []
    fewer = replace(row, measured=replace(measured, running=2))
    assert "2 of 3 slots" in "".join(full_geometry.notes(fewer))


def test_too_little_time_for_a_figure_is_said(loaded: LoadedModel) -> None:
    with pytest.raises(RuntimeError, match="budget-s"):
        measure(loaded, LOAD, cap_gib=None, budget_s=0.0, min_run_s=0.0)


def test_an_instruction_has_the_length_that_was_asked_for(loaded: LoadedModel) -> None:
    text = make_instruction(loaded.tokenizer, 120)
    assert 120 <= len(encode_prompt(loaded.tokenizer, text, 1).prefix_ids) <= 123


def test_the_baselines_compute_what_the_reference_does(loaded: LoadedModel) -> None:
    module = experts_baselines.fused_packed(loaded.model)[0]
    inputs = experts_baselines.make_inputs(loaded, module, 7)
    expected = reference.nf4_experts_forward(module, *inputs)
    for forward in (experts_baselines.PerExpert(), experts_baselines.dequantised_grouped_mm):
        torch.testing.assert_close(forward(module, *inputs), expected, rtol=1e-4, atol=1e-5)
