"""`prelabel doctor`: will it work here: model, card, disk, port, Label Studio, API key. Downloads and starts nothing.

Prints the memory plan of the model that is loaded here and a line for each check, with what to do about it, or one JSON
object with `--json`. The exit code says the verdict: 0 nothing fails, 1 a check does, 2 the model's numbers cannot be
found or read. Raises SettingsError, as `prelabel serve` would.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import httpx
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from backend.engine.api import GONE
from backend.engine.messages import WAITS_FOR_OTHERS
from backend.logs import one_line, redact
from backend.pages.words import Words
from backend.predict.build import engine_options, image_policy
from backend.settings import Settings
from backend.status.check import Check, Verdict, bad, doubtful, good
from backend.status.disk_limit import within_limit
from backend.status.label_studio_checks import label_studio_checks
from backend.status.machine_checks import (
    card_check,
    compiler_check,
    data_dir_check,
    disk_checks,
    folder_checks,
    host_memory_check,
    judged_empty_check,
    memory_check,
    memory_plan,
    model_check,
    port_check,
    shared_memory_checks,
    thread_checks,
    volume_checks,
)  # fmt: skip
from model_loader.cards import LEAST_CAPABILITY, Card, read_signs
from model_loader.choice import best_on, choose_model, worth_to
from model_loader.disks import Disk, disks_of
from model_loader.errors import ModelError
from model_loader.geometry import DEFAULT_MODEL
from model_loader.host import available_bytes, free_pids, is_wsl
from model_loader.memory import GIB, MARGIN, SIXTEEN_BIT, MemoryPlan
from model_loader.places import expanded
from model_loader.several_cards import LOOK_S, best_of, cards_beside
from model_loader.sources import AUTO
from model_loader.troubles import Trouble, trouble

EXIT_GOOD, EXIT_FAILED, EXIT_UNKNOWN_MODEL = 0, 1, 2
PACKAGES = ("torch", "transformers", "bitsandbytes")
MARKS: dict[Verdict, tuple[str, str]] = {
    "good": ("✓", "green"), "unused": ("–", "dim"), "doubtful": ("!", "yellow"), "bad": ("✗", "bold red"),
}  # fmt: skip
_ASK_S = 2.0
_words = Words("en")


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine has. `driver` is NVIDIA's version, "" for none; `downloads` and `copies` may be one disk.

    `host_bytes`: what of its own memory is free, None where nobody knows. `free_pids`: how many more processes and
    threads there may be, None where nothing limits them.
    """

    card: Card | Trouble
    driver: str
    downloads: Disk
    copies: Disk
    host_bytes: int | None = None
    free_pids: int | None = None
    num_cpus: int = 1


def inspect_machine(settings: Settings, limit_s: float = LOOK_S) -> Machine:
    """Look at the card, the driver, the disks the model would go to, and the machine's own memory."""
    if settings.device == "cpu":
        card: Card | Trouble = trouble("card_none")
    else:
        card = best_of(cards_beside(_device(settings), limit_s), worth_to(settings.model, **_wanted(settings)))
    disks = disks_of(settings.model, settings.quantised_folder)
    num_cpus = len(os.sched_getaffinity(0))
    return Machine(card, read_signs().driver, *disks, available_bytes(), free_pids(), num_cpus)


def doctor(
    settings: Settings,
    *,
    other_card: bool = False,
    json_output: bool = False,
    machine: Callable[[Settings], Machine] = inspect_machine,
) -> int:
    """Print the plan and the checks of what `settings` say, and return the exit code.

    `other_card`: their `vram_gib` may be that of a larger card than this machine's. `serve` never takes more than there
    is.
    """
    image_policy(settings)  # its own refusals
    within_limit(lambda: _touch_disks(settings))
    found, is_running = machine(settings), _is_prelabel(settings)
    holds_card = is_running and _holds_card(settings)
    card = _judged_card(settings, found, other_card=other_card, holds_card=holds_card)
    model = _judged_model(settings, card)
    plan, against, error = None, None, ""
    try:
        plan, against = memory_plan(settings, model, card)
    except (ModelError, OSError) as refused:
        error = one_line(redact(str(refused)))
    loaded, check = _model(settings, found, model)
    checks = [check, *_checks(settings, found, loaded, plan, is_running=is_running)]
    if plan is not None:
        checks.insert(2, memory_check(plan, against))
    if holds_card and isinstance(found.card, Card) and card == _emptied(found.card) != found.card:
        checks.insert(3, judged_empty_check(found.card))
    if plan is None and checks[0].verdict != "bad":
        checks.insert(2, doubtful("memory", "model_no_numbers", model=model))
    if json_output:
        print(json.dumps(report(model, plan, checks, error), indent=2, ensure_ascii=False))
    else:
        # of another model than this machine loads the plan is no answer to what it can do
        _print(model, plan, checks, plan_first=model == loaded or settings.vram_gib is not None)
    if plan is None:
        return EXIT_UNKNOWN_MODEL
    return EXIT_FAILED if any(check.verdict == "bad" for check in checks) else EXIT_GOOD


def _touch_disks(settings: Settings) -> None:
    """All that is looked at below: what does not answer here would not answer there, either."""
    data_dir_check(settings.data_dir)
    disks_of(settings.model, settings.quantised_folder)
    os.path.exists(expanded(settings.model))


def _judged_card(settings: Settings, machine: Machine, *, other_card: bool, holds_card: bool) -> Card | None:
    """The card whose memory is judged: this machine's, or another that `--vram-gib` speaks of; where this machine has
    none, PRELABEL_VRAM_GIB does, too. `holds_card`: a prelabel that runs holds memory of it."""
    card = machine.card if isinstance(machine.card, Card) else None
    if settings.vram_gib and (card is None or (other_card and settings.vram_gib > card.memory_gib)):
        return Card("", settings.vram_gib, settings.vram_gib, LEAST_CAPABILITY)
    if card is not None and holds_card:  # what it holds will be free for the next one
        return _emptied(card)
    return card


def _emptied(card: Card) -> Card:
    return replace(card, free_gib=card.memory_gib)


def _judged_model(settings: Settings, card: Card | None) -> str:
    """The model whose memory is told: the one that was named, or what `auto` is on `card`."""
    if settings.model != AUTO:
        return settings.model
    return DEFAULT_MODEL if card is None else best_on(card, **_wanted(settings))[0]


def _wanted(settings: Settings) -> dict[str, Any]:
    """What a card must hold, as the engine is told."""
    options = engine_options(settings)
    return {"vram_gib": options.vram_gib, "request": options.request, "max_slots": options.max_slots}


def _checks(
    settings: Settings, machine: Machine, model: str, plan: MemoryPlan | None, *, is_running: bool
) -> list[Check]:
    """All but those of the `model` that is loaded here, and of the card's memory."""
    checks = [card_check(settings, machine.card, machine.driver)]
    on_card = isinstance(machine.card, Card)
    if on_card:
        checks.append(compiler_check())
        if is_wsl():
            checks.append(doubtful("card", "card_in_wsl"))
    if plan is not None:
        checks.append(host_memory_check(model, machine.host_bytes, on_card=on_card))
        checks += disk_checks(settings, model, plan, machine.downloads, machine.copies)
    checks += thread_checks(None if _is_prelabel(settings) else machine.free_pids, machine.num_cpus)
    checks += shared_memory_checks()
    checks += folder_checks(settings, model, on_card=on_card)
    checks += [data_dir_check(settings.data_dir), *volume_checks(settings.data_dir)]
    checks.append(port_check(settings.host, settings.port, is_running))
    return [*checks, *label_studio_checks(settings)]


def _model(settings: Settings, machine: Machine, judged: str) -> tuple[str, Check]:
    """What would be loaded, and whether it can be: `auto` is made out."""
    if settings.model != AUTO:
        return settings.model, model_check(settings)
    try:
        choice = choose_model(AUTO, device=_device(settings), look=lambda *_: machine.card, **_wanted(settings))
    except ModelError:  # the card's own lines say why
        return judged, bad("model", "model_auto_refused")
    return choice.model, good("model", "model_chosen", model=choice.model, reason=choice.reason)


def _device(settings: Settings) -> str | None:
    return None if settings.device == "auto" else settings.device


def _is_prelabel(settings: Settings) -> bool:
    """Whether one listens where `settings` say already."""
    if settings.port == 0:
        return False
    try:
        return httpx.get(f"{settings.own_url}/livez", timeout=_ASK_S, trust_env=False).text == "ok\n"
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


def _holds_card(settings: Settings) -> bool:
    """Whether the prelabel that listens there may hold memory of a card: not while its engine waits for others to leave
    it, nor once that is given up."""
    user = settings.credentials
    auth = httpx.BasicAuth(user.user, user.password) if user else None
    try:
        model = httpx.get(f"{settings.own_url}/health", auth=auth, timeout=_ASK_S, trust_env=False).json()["model"]
        return not (model["state"] in GONE or model["stage"] in WAITS_FOR_OTHERS)
    except (httpx.HTTPError, ValueError, LookupError, TypeError):  # another password, say: then nobody knows
        return True


def report(model: str, plan: MemoryPlan | None, checks: Sequence[Check], error: str = "") -> dict[str, Any]:
    """The plan and the checks as one JSON-able object: GiB rounded to 1/100, parameters in billions and exact."""
    said = {"checks": [{**asdict(check), "text": _text(check)} for check in checks]}
    if plan is None:
        return {"model": model, "fits": None, "error": error, **said}
    num_experts_params = sum(part.num_params for part in plan.parts if part.name == "experts")
    return {
        "model": model,
        "fits": plan.fits,
        "num_params": plan.num_params,
        "params_billion": _billion(plan.num_params),
        "experts_params_billion": _billion(num_experts_params),
        "gib": {part.name: _gib(part.size_bytes) for part in plan.parts},
        "weights_gib": _gib(plan.weights_bytes),
        "workspace_gib": _gib(plan.workspace_bytes),
        "kv_slot_gib": round(plan.kv_slot_bytes / GIB, 4),
        "kv_slot_tokens": plan.request.own_tokens,
        "image_tokens": plan.request.image_tokens,
        "needed_gib": _gib(plan.needed_bytes),
        "vram_gib": None if plan.vram_bytes is None else _gib(plan.vram_bytes),
        "offered_gib": None if plan.offered_bytes is None else _gib(plan.offered_bytes),
        "free_for_kv_gib": None if plan.free_bytes is None else _gib(plan.free_bytes),
        "num_slots": plan.num_slots,
        "num_slots_assumes": {
            "instruction_tokens": plan.request.instruction_tokens,
            "instruction_is_shared": True,
            "image_tokens": plan.request.image_tokens,
            "answer_tokens": plan.request.answer_tokens,
            "longest_tokens": plan.request.longest_tokens,
            "max_slots": plan.max_slots,
            "margin": MARGIN,
        },
        "naive_load_in_4bit_gib": _gib(plan.naive_bytes),
        "sixteen_bit_gib": _gib(round(plan.num_params * SIXTEEN_BIT)),
        **said,
    }


def _print(model: str, plan: MemoryPlan | None, checks: Sequence[Check], *, plan_first: bool) -> None:
    console = Console(highlight=False)
    planned = [] if plan is None else [_plan_table(model, plan)]
    table = Table.grid(padding=(0, 1))
    for check in checks:
        mark, style = MARKS[check.verdict]
        table.add_row(Text(mark, style), Text(_words.check_name(check.name), "bold"), Text(_text(check)))
    lines: list[RenderableType] = [*planned, table]
    if planned and not plan_first:
        lines = [table, "", "On a card that holds it auto would load:", *planned]
    for line in lines:
        console.print(line)
    console.print(", ".join(f"{name} {_version(name)}" for name in PACKAGES), style="dim")


def _text(check: Check) -> str:
    return one_line(redact(_words.check(check.code, check.values)))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _plan_table(model: str, plan: MemoryPlan) -> Table:
    title = Text(f"{model}: {count(plan.num_params)} parameters")
    table = Table(title=title, title_justify="left")
    table.add_column("part")
    table.add_column("parameters", justify="right")
    table.add_column("GiB", justify="right")
    table.add_column("how")
    for part in plan.parts:
        table.add_row(
            part.name.replace("_", " "),
            count(part.num_params) if part.num_params else "",
            _size(part.size_bytes),
            part.note,
        )
    table.add_section()
    request = plan.request
    slot = f"picture {request.image_tokens} tokens, answer {request.answer_tokens}; all share the instruction"
    table.add_row("KV cache slot", "", _size(plan.kv_slot_bytes), slot)
    least = f"with one request of {request.longest_tokens} tokens, {MARGIN:.0%} to spare and CUDA's own"
    table.add_row("least needed", "", _size(plan.needed_bytes), least)
    if any(part.name == "experts" for part in plan.parts):
        table.add_row("naive load_in_4bit", "", _size(plan.naive_bytes), "transformers alone: experts stay 16 bit")
    return table


def count(num: int) -> str:
    """In billions, millions or thousands: "31.07 billion", "1.30 million"."""
    for unit, size in (("billion", 10**9), ("million", 10**6), ("thousand", 10**3)):
        if num >= size:
            return f"{num / size:.2f} {unit}"
    return str(num)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / GIB:.2f}" if size_bytes >= 0.005 * GIB or not size_bytes else "<0.01"


def _billion(num: int) -> float:
    return round(num / 1e9, 2 if num >= 10**7 else 6)


def _gib(size_bytes: int) -> float:
    return round(size_bytes / GIB, 2)
