"""`prelabel doctor`: the plan and the checks for people and for scripts, from files of the package alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from backend import cli
from backend.commands.doctor import Machine, count, doctor, inspect_machine
from backend.errors import SettingsError
from backend.settings import Settings, load_settings
from model_loader.cards import Card, find_card
from model_loader.disks import Disk
from model_loader.geometry import DEFAULT_MODEL
from model_loader.memory import GIB
from model_loader.several_cards import cards_beside
from model_loader.troubles import Trouble, trouble
from tests.backend.fake_label_studio import LEGACY_KEY, fake_label_studio
from tests.limits import RUN_S

NO_CARD = trouble("card_none")


def machine(
    card: Card | Trouble = NO_CARD, free_gib: float = 500, free_pids: int | None = None
) -> Callable[[Settings], Machine]:
    disk = Disk(Path("/disk"), 1, int(free_gib * GIB))
    driver = "580.95" if isinstance(card, Card) else ""
    return lambda settings: Machine(card, driver, disk, disk, 32 * GIB, free_pids)


class Doctor:
    """Runs it on a machine of its own, at a free port, and keeps what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], data_dir: Path) -> None:
        self._capsys = capsys
        self._data_dir = data_dir

    def text(self, code: int, model: str = DEFAULT_MODEL, vram_gib: float | None = 24.0, **given: Any) -> str:
        options = {name: given.pop(name) for name in ("machine", "other_card", "json_output") if name in given}
        settings = load_settings({"model": model, "vram_gib": vram_gib, "data_dir": self._data_dir, "port": 0, **given})
        assert doctor(settings, **{"machine": machine(), **options}) == code
        return self._capsys.readouterr().out

    def json(self, code: int, *args: Any, **given: Any) -> Any:
        return json.loads(self.text(code, *args, json_output=True, **given))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Doctor:
    monkeypatch.setenv("COLUMNS", "200")
    return Doctor(capsys, tmp_path)


def test_json_says_that_the_30b_fits_24_gib(run: Doctor) -> None:
    said = run.json(0)
    assert said["fits"] is True
    assert (said["params_billion"], said["experts_params_billion"]) == (31.07, 28.99)
    assert said["weights_gib"] == pytest.approx(17.00, abs=0.01)
    assert said["naive_load_in_4bit_gib"] == pytest.approx(56, abs=0.2)
    assert said["num_slots"] == 128
    assert said["num_slots_assumes"] == {
        "instruction_tokens": 975, "instruction_is_shared": True, "image_tokens": 256, "answer_tokens": 120,
        "longest_tokens": 4096, "max_slots": 128, "margin": 0.04,
    }  # fmt: skip
    assert said["needed_gib"] < 24
    assert set(said["gib"]) >= {"experts", "attention", "vision", "embeddings_and_head", "router_and_norms"}


def test_the_engine_and_doctor_have_the_same_number_for_a_card_that_others_use(run: Doctor) -> None:
    said = run.json(0, "auto", None, machine=machine(Card("Some Card", 23.65, 22.85, (8, 9))))
    assert (said["num_slots"], said["offered_gib"], said["vram_gib"]) == (120, 22.85, 23.65)


def test_a_setting_of_more_memory_than_the_card_has_makes_it_no_other_card(run: Doctor) -> None:
    taken = machine(Card("RTX 4090", 23.65, 5.0, (8, 9)))
    said = run.json(1, vram_gib=24.0, machine=taken)  # as `serve` refuses it
    assert "other programs leave 5.0 of the card's 23.6 GiB" in said["checks"][2]["text"]
    assert run.json(0, vram_gib=24.0, machine=taken, other_card=True)["fits"] is True


@pytest.mark.parametrize(
    ("memory_gib", "free_gib", "model", "slots"),
    [(11.6, 11.6, "Qwen/Qwen3-VL-8B-Instruct", 73), (7.6, 7.0, "Qwen/Qwen3-VL-4B-Instruct", 41)],
)
def test_a_smaller_card_is_told_of_the_dense_model_that_auto_takes_there(
    run: Doctor, memory_gib: float, free_gib: float, model: str, slots: int
) -> None:
    card = Card("Some Card", memory_gib, free_gib, (8, 9))
    said = run.json(0, "auto", None, machine=machine(card))
    assert (said["model"], said["fits"], said["num_slots"], said["experts_params_billion"]) == (model, True, slots, 0)
    text = run.text(0, "auto", None, machine=machine(card))
    assert (
        f"auto takes {model}: the best that Some Card holds, with {slots} requests at a time; {DEFAULT_MODEL}" in text
    )
    assert "dense mlp" in text
    assert "naive load_in_4bit" not in text
    assert run.json(0, model, None, machine=machine(card))["num_slots"] == slots


def test_a_card_that_holds_no_model_fails_the_check_by_the_smallest(run: Doctor) -> None:
    said = run.json(1, "auto", None, machine=machine(Card("Some Card", 3.4, 3.4, (8, 6))))
    checks = {check["name"]: check for check in said["checks"]}
    assert (said["model"], checks["model"]["code"]) == ("Qwen/Qwen3-VL-2B-Instruct", "model_auto_refused")
    assert "At least 3.5 GiB are needed" in checks["memory"]["text"]


def test_pictures_of_more_tokens_make_auto_take_what_holds_them(run: Doctor) -> None:
    small = machine(Card("Some Card", 9.3, 9.3, (8, 9)))
    models = [run.json(0, "auto", None, machine=small, image_tokens=n)["model"] for n in (256, 4096)]
    assert models == ["Qwen/Qwen3-VL-8B-Instruct", "Qwen/Qwen3-VL-4B-Instruct"]


def test_a_card_that_does_not_answer_is_told(run: Doctor) -> None:
    said = run.text(1, "auto", None, machine=lambda settings: inspect_machine(settings, limit_s=0.01))
    assert "✗ Card" in said
    assert "NVIDIA's driver has not answered for 0 s. Does nvidia-smi?" in said


@contextmanager
def running(**model: str) -> Iterator[int]:
    """The port of a prelabel that says so of its `model` at /health."""

    class Prelabel(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            said = {"/livez": "ok\n", "/health": json.dumps({"model": model} if model else "no JSON of ours")}
            self.wfile.write(said[self.path].encode())

    with ThreadingHTTPServer(("127.0.0.1", 0), Prelabel) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize(("free_gib", "is_told"), [(3.0, True), (23.6, False)])
@pytest.mark.parametrize("model", [{"state": "ready", "stage": "ready"}, {"state": "loading", "stage": "load"}, {}])
def test_beside_a_running_prelabel_it_is_said_that_the_card_is_judged_as_empty(
    run: Doctor, free_gib: float, is_told: bool, model: dict[str, str]
) -> None:
    with running(**model) as port:
        card = Card("Some Card", 23.6, free_gib, (8, 9))
        text = " ".join(run.text(0, machine=machine(card), vram_gib=None, port=port).split())
    assert "128 requests at a time" in text
    told = f"! Memory prelabel is running, so the card is judged as if nothing else held memory of it; now {free_gib}"
    assert (told in text) is is_told


@pytest.mark.parametrize(
    "model", [{"state": "loading", "stage": "card_again"}, {"state": "failed", "stage": ""}], ids=["waits", "failed"]
)
def test_a_card_of_which_a_running_prelabel_holds_nothing_is_judged_as_it_is(
    run: Doctor, model: dict[str, str]
) -> None:
    with running(**model) as port:
        card = Card("Some Card", 23.6, 3.0, (8, 9))
        text = " ".join(run.text(1, machine=machine(card), vram_gib=None, port=port).split())
    assert "other programs leave 3.0 of the card's 23.6 GiB" in text
    assert "prelabel is running, so the card is judged" not in text


def test_of_several_cards_the_check_names_the_one_that_is_taken_and_says_why(run: Doctor) -> None:
    card = Card("Some Card", 23.6, 23.1, (8, 9), 1, "cuda:1, PCI 00000000:41:00.0", ("cuda:0: too old",))
    text = run.text(0, "auto", None, machine=machine(card))
    assert "✓ Card         Some Card (cuda:1, PCI 00000000:41:00.0): 23.6 GiB, 23.1 GiB of it free" in text
    assert "it has the most free memory of those that can be used, or for auto hold" in " ".join(text.split())


def test_a_card_is_asked_for_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cards_beside("cuda:99", RUN_S) == [find_card("cuda:99")]
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    (tmp_path / "torch/version.py").write_text("__version__, cuda = '2.9.1', '13.0'")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path.cwd()}")
    [found] = cards_beside(None, RUN_S)
    assert isinstance(found, Trouble)
    assert (found.code, found.values["said"]) == ("card_error", "asking for it ended with exit code -11")


def test_card_that_is_too_small_is_exit_code_1(run: Doctor) -> None:
    assert run.json(1, vram_gib=16.0)["fits"] is False


def test_more_image_tokens_leave_room_for_fewer(run: Doctor) -> None:
    slots = [run.json(0, image_tokens=image_tokens)["num_slots"] for image_tokens in (256, 1024)]
    assert slots[0] > slots[1] > 0


@pytest.mark.parametrize("model", ["no/such-model", "garment", "/no/such/folder"])
def test_a_model_without_numbers_is_exit_code_2(run: Doctor, model: str) -> None:
    said = run.json(2, model)
    assert (said["fits"], model in said["error"]) == (None, True)
    assert model in run.text(2, model)


def test_a_model_whose_files_cannot_be_read_fails_by_name(run: Doctor, tmp_path: Path) -> None:
    folder = tmp_path / "unreadable"
    folder.mkdir()
    (folder / "config.json").symlink_to("/proc/self/mem")  # an input/output error
    said = run.json(2, str(folder))
    assert "Input/output error" in said["error"]
    assert said["checks"][0]["verdict"] == "bad"


def test_the_table_names_the_card_of_this_machine(run: Doctor) -> None:
    text = run.text(0, "auto", None, machine=machine(Card("Some Card", 23.6, 23.6, (8, 9))))
    for expected in (
        "31.07 billion parameters", "Some Card: 23.6 GiB", "fits 23.6 GiB", "Compiler", "bitsandbytes", "load_in_4bit",
        f"auto takes {DEFAULT_MODEL}",
    ):  # fmt: skip
        assert expected in text


def test_without_a_card_there_is_no_verdict_on_memory(run: Doctor) -> None:
    text = run.text(0, "auto", None)
    assert "name one with --vram-gib" in text
    first, _, plan = text.partition("On a card that holds it auto would load:")
    assert first.startswith("✓ Model        auto takes garments: this machine has no CUDA card")
    assert "parameters" not in first
    assert f"{DEFAULT_MODEL}: 31.07 billion parameters" in plan
    assert run.text(0, "auto", 24.0).startswith(f"{DEFAULT_MODEL}: ")  # of a card that is asked about


def test_auto_loads_nothing_where_there_is_a_card_that_cannot_be_used(run: Doctor) -> None:
    old = trouble("card_too_old", card="Tesla T4", capability="7.5")
    text = run.text(1, "auto", None, machine=machine(old))
    assert "auto loads nothing until what is said below is put right" in text
    assert "Tesla T4 has compute capability 7.5, and 8.0 is needed" in text
    assert "Tesla T4" in run.text(1, DEFAULT_MODEL, None, machine=machine(old))
    assert "Tesla T4" in run.text(0, "garments", None, machine=machine(old))  # it runs on the CPU


def test_a_limit_of_threads_is_told(run: Doctor) -> None:
    assert "This container or service may have 60 more processes and threads" in run.text(
        0, machine=machine(free_pids=60)
    )


def test_a_card_that_other_programs_fill_is_told(run: Doctor) -> None:
    text = run.text(1, "auto", None, machine=machine(Card("Some Card", 23.6, 9.0, (8, 9))))
    assert "other programs leave 9.0 of the card's 23.6 GiB" in text


def test_the_small_model_is_counted_in_millions(run: Doctor) -> None:
    text = run.text(0, "garments", None)
    assert text.startswith("garments: 2.73 million parameters")
    assert "0.00 B" not in text
    assert run.json(0, "garments", None)["params_billion"] == pytest.approx(0.002733, abs=1e-6)


@pytest.mark.parametrize(("num", "told"), [(31_070_754_032, "31.07 billion"), (2_727_000, "2.73 million"), (12, "12")])
def test_parameters_are_counted_in_the_unit_that_fits(num: int, told: str) -> None:
    assert count(num) == told


def test_each_check_is_a_line_with_its_mark_and_what_to_do(run: Doctor) -> None:
    with fake_label_studio() as server:
        access = {"label_studio_url": server.url, "label_studio_api_key": "b" * 40}
        lines = run.text(1, "garments", None, machine=machine(free_gib=0.1), **access).splitlines()
        marks = {line[2:14].strip(): line[0] for line in lines if line[:1] in tuple("✓–!✗")}
        assert marks == {
            "Model": "✓", "Card": "–", "Memory": "–", "Host memory": "✓", "Disk": "!",
            "Data folder": marks["Data folder"], "Port": "✓",
            "Label Studio": "✓", "API key": "✗", "Networks": "–",
        }  # fmt: skip
        text = "\n".join(lines)
        assert "/disk: 0.1 GiB free, which is tight" in text
        assert "Account & Settings > Personal Access Token" in text


def test_json_says_the_same(run: Doctor) -> None:
    with fake_label_studio() as server:
        access = {"label_studio_url": f"{server.url}/projects/1", "label_studio_api_key": LEGACY_KEY}
        said = run.json(1, "garments", None, **access)
        checks = {check["name"]: check for check in said["checks"]}
        assert (checks["address"]["verdict"], checks["address"]["code"]) == ("bad", "address_page")
        assert checks["address"]["text"].endswith(f"The address of Label Studio is {server.url}")
        assert checks["model"]["verdict"] == "good"


def test_a_key_that_was_pasted_with_a_space_is_refused_as_serve_does(run: Doctor) -> None:
    with pytest.raises(SettingsError, match="paste it again"):
        run.text(2, label_studio_url="http://127.0.0.1:1", label_studio_api_key="a b")


def test_the_command_takes_label_studios_address_and_key(tmp_path: Path) -> None:
    with fake_label_studio() as server:
        options = ["--label-studio", server.url, "--api-key", LEGACY_KEY, "--data-dir", str(tmp_path), "--json"]
        done = CliRunner().invoke(cli.app, ["doctor", "--model", "garments", *options], env={"PRELABEL_PORT": "0"})
        checks = {check["name"]: check["text"] for check in json.loads(done.output)["checks"]}
        assert checks["token"] == "belongs to a@example.com"
