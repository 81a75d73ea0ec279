"""From a loaded model to a runner that may serve: kernels, memory, graphs. On a CPU there is only memory to look at.

Nothing that a card does wrong here passes in silence, and what fails falls back alone: a kernel that computes something
else than plain torch, graphs that cannot be captured, a KV cache or prefills for which memory does not suffice. What
came of it is told in `slower`. What only a new process can leave behind raises StartAgainWithout.
Raises ModelTooLarge when not even one request fits.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from backend.engine.graphs import Graph
from backend.engine.messages import Part
from backend.engine.options import EngineOptions, StartAgainWithout
from backend.engine.runner import Runner
from backend.engine.self_check import attention_wrong
from backend.engine.sizing import Sizes, least_kv_tokens, make_runner, measure_sizes, slots_of_empty_card
from backend.engine.spill import Seconds, spilled
from backend.errors import one_line
from backend.pages.words import Words
from model_loader.cards import TIGHT
from model_loader.experts import calibrate, left_out, use_fused_linears
from model_loader.experts.capture import CaptureFailed
from model_loader.experts.plan import REFERENCE, ExpertsPlan, plan_for, set_plan
from model_loader.host import is_wsl
from model_loader.load_errors import is_fault, known_error
from model_loader.loader import LoadedModel
from model_loader.memory import PREFILL_TOKENS

log = logging.getLogger(__name__)

_words = Words("en")

LOAD_SHARE = 0.9
"""Of the whole start: on a card kernels, memory and graphs come after the model is loaded, and take a minute or two."""
AS_COMPUTED = 0.9
"""A person is told where fewer requests than this share of what `prelabel doctor` computes find room."""
TRIED_BYTES = 64 * 2**20
SMALLER = 0.9
TRIES = 4
"""How often graphs are captured, each time in a KV cache of SMALLER the size, where memory does not suffice."""

Say = Callable[[str, float], None]
Slower = tuple[tuple[str, str], ...]
Capture = Callable[[Callable[[], None]], Graph]


@dataclass(frozen=True, slots=True)
class Started:
    """`slower`: what makes it slower than it should be, the code of a check and why."""

    runner: Runner
    sizes: Sizes
    slower: Slower = ()


def start(loaded: LoadedModel, options: EngineOptions, say: Say = lambda stage, fraction: None) -> Started:
    """Make all ready; `say` is told each stage, and the share of the start that is behind it."""
    without = dict(options.without)
    copy = of_copy(loaded.unsaved or without.get("copy", ""))
    if not loaded.device.startswith("cuda"):
        return Started(*make_runner(loaded, options, measure_sizes(loaded, options)), copy)
    say("kernels", LOAD_SHARE)
    with leaving("kernels", options):
        slower, may_capture = use_kernels(loaded, options.quantised_dir, without)
    say("memory", 0.95)
    with leaving("kernels", options):
        planned = measure_sizes(loaded, options)
        runner, sizes = make_runner(loaded, options, planned)
    if "graphs" in without:
        slower = (*slower, ("slow_graphs", without["graphs"]))
    elif may_capture:
        say("graphs", 0.97)
        with leaving("graphs", options):
            runner, sizes, said = with_graphs(
                runner, sizes, least_kv_tokens(options), lambda smaller: make_runner(loaded, options, smaller)
            )
        slower = (*slower, *said)
    if "segments" in without:
        slower = (*slower, ("slow_segments", without["segments"]))
    if is_wsl():
        slower = (*slower, *of_spill(loaded, runner))
    slots = slots_of_empty_card(loaded, options)
    return Started(runner, sizes, (*slower, *of_memory(sizes, planned, slots), *copy))


def try_allocator(device: str, options: EngineOptions, allocate: Callable[[str], object] | None = None) -> None:
    """Take the first memory of a card, before hours of download. Raises StartAgainWithout where expandable segments are
    not to be had, as in some virtual machines. What says something else of the card is not taken for that."""
    try:
        (allocate or _some_memory)(device)
    except RuntimeError as error:
        if "segments" in dict(options.without) or known_error(error) is not None:
            raise
        raise StartAgainWithout("segments", one_line(error)) from error


def _some_memory(device: str) -> object:
    return torch.zeros(TRIED_BYTES, dtype=torch.uint8, device=device).sum().item()


def with_graphs(
    runner: Runner,
    sizes: Sizes,
    least_kv_tokens: int,
    make: Callable[[Sizes], tuple[Runner, Sizes]],
    capture: Capture | None = None,
) -> tuple[Runner, Sizes, Slower]:
    """Have `runner`, or one that `make` makes with a smaller KV cache, decode through graphs that were found right.

    Raises CaptureFailed. `capture`: as in `DecodeGraphs`.
    """
    for tries_left in reversed(range(TRIES)):
        try:
            runner.capture_graphs(capture)
            said = runner.check_graphs()
        except torch.OutOfMemoryError as error:
            smaller = replace(sizes, kv_tokens=int(SMALLER * sizes.kv_tokens))
            if not tries_left or smaller.kv_tokens < least_kv_tokens:
                raise CaptureFailed(one_line(error)) from error
            log.warning("no memory to capture graphs: a KV cache of %d positions is tried", smaller.kv_tokens)
        else:
            break
        runner.close()
        _free()  # outside of the `except`, whose traceback holds tensors
        runner, sizes = make(smaller)
    if said:
        log.error("decode steps are not replayed as graphs: %s", said)
    return runner, sizes, (("slow_graphs", said),) if said else ()


def of_copy(unsaved: str) -> Slower:
    """A start that must pack again is minutes longer, and so is every restart after a fault. `unsaved`: why it must."""
    return (("slow_starts", unsaved),) if unsaved else ()


def of_spill(loaded: LoadedModel, runner: Runner, seconds: Seconds | None = None) -> Slower:
    """What of weights and KV cache Windows' driver has moved off the card. `seconds`: as in `spilled`."""
    log.warning("%s", _words.check("card_in_wsl", {}))
    said = spilled([*(one for one in loaded.model.parameters() if one.is_cuda), runner.kv_memory], seconds)
    return (("slow_spill", said),) if said else ()


def of_memory(sizes: Sizes, planned: Sizes, slots_of_empty_card: int) -> Slower:
    """What is smaller than it was measured to fit, or than it should be."""
    slower = []
    if sizes.max_slots < AS_COMPUTED * sizes.computed_slots:
        slower.append(("slow_workspace", f"{sizes.max_slots:,} / {sizes.computed_slots:,}"))
    elif sizes.max_slots < TIGHT * slots_of_empty_card:
        slower.append(("slow_slots", f"{sizes.max_slots:,} / {slots_of_empty_card:,}"))
    if sizes.kv_tokens < planned.kv_tokens:
        slower.append(("slow_kv_cache", f"{sizes.kv_tokens:,} / {planned.kv_tokens:,}"))
    if sizes.max_prefill_tokens < PREFILL_TOKENS:
        slower.append(("slow_prefills", f"{sizes.max_prefill_tokens:,} / {PREFILL_TOKENS:,}"))
    return tuple(slower)


@contextmanager
def leaving(part: Part, options: EngineOptions) -> Iterator[None]:
    """What leaves this process unsound in here raises StartAgainWithout `part`, if there is any left to go without.

    A fault does, and whatever goes wrong with graphs may.
    """
    try:
        yield
    except CaptureFailed as error:
        raise StartAgainWithout("graphs", one_line(error)) from error
    except Exception as error:
        if part in dict(options.without) or not (part == "graphs" or is_fault(error)):
            raise
        raise StartAgainWithout(part, one_line(error)) from error


def use_kernels(loaded: LoadedModel, kept_in: Path | None, without: Mapping[Part, str]) -> tuple[Slower, bool]:
    """Check and tune those of a model on a card. Returns what cannot be used, and whether a decode step can be
    captured. `kept_in`: the folder of what earlier starts have measured."""
    device = loaded.model.device
    if "kernels" in without:
        set_plan(device, REFERENCE)
        return (("slow_kernels", without["kernels"]),), False
    use_fused_linears(loaded.model)
    calibrate(loaded.model, may_capture="graphs" not in without, kept_in=kept_in)
    plan = plan_for(device)
    wrong = attention_wrong(loaded.model.config.text_config, loaded.device, loaded.dtype)
    found = left_out(loaded.model) | dict(plan.slower) | ({"slow_attention": wrong} if wrong else {})
    is_dense = not any(hasattr(module, "gate_up_proj_absmax") for module in loaded.model.modules())
    return in_short(found, is_dense=is_dense), can_be_captured(plan, wrong) and "slow_experts" not in found


def can_be_captured(plan: ExpertsPlan, attention: str) -> bool:
    """Whether a decode step can: not with plain torch's experts, which wait for the card, nor with keys that are
    gathered. `attention`: why its kernel cannot be used."""
    return not attention and plan.path(1) != "reference"


def in_short(found: Mapping[str, str], *, is_dense: bool) -> Slower:
    """What was found of kernels; where none can be used, as without a compiler, that is one thing and not three."""
    if {"slow_linears", "slow_attention"} <= found.keys() and (is_dense or "slow_experts" in found):
        return (("slow_kernels", found["slow_linears"]),)
    return tuple(found.items())


def _free() -> None:
    """Give back what a closed runner held. Raises CaptureFailed where torch's allocator cannot."""
    gc.collect()
    try:
        torch.cuda.empty_cache()
    except RuntimeError as error:
        raise CaptureFailed(one_line(error)) from error
