"""Model, card, disk, data folder and port: what each check says of a machine as it may be found."""

from __future__ import annotations

import json
import shutil
import socket
import string
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from backend.engine.api import EngineStatus
from backend.engine.messages import Ready, Stats
from backend.engine.own_code import running_code
from backend.errors import SettingsError
from backend.pages.check_words import CHECKS, NAMES
from backend.pages.words import Words
from backend.settings import Settings, load_settings
from backend.status.check import Check
from backend.status.gauges import metrics_text
from backend.status.machine_checks import (
    card_check,
    compiler_check,
    data_dir_check,
    disk_checks,
    folder_checks,
    host_memory_check,
    memory_check,
    memory_plan,
    model_check,
    port_check,
    shared_memory_checks,
    thread_checks,
    volume_checks,
)  # fmt: skip
from backend.status.serve_checks import engine_checks, refuse_hopeless, running_checks
from model_loader.cards import Card
from model_loader.disks import Disk
from model_loader.geometry import DEFAULT_MODEL
from model_loader.memory import GIB
from model_loader.saved import place_for
from model_loader.sources import GARMENTS_CHECKPOINT
from model_loader.troubles import TEXTS, Trouble, trouble

DENSE_8B = "Qwen/Qwen3-VL-8B-Instruct"
CARD = Card("Some Card", 23.6, 22.9, (8, 9))
HIDDEN = trouble("card_hidden", visible="7")


def settings(**given: Any) -> Settings:
    return load_settings(given)


def said(check: Check) -> str:
    texts = [Words(language).check(check.code, check.values) for language in ("zh", "en")]
    assert texts[0] != check.code, "there are no words for it"
    assert not any("{" in text for text in texts), texts
    return texts[1]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: models/qwen3 holds no model, models/other another kind of one, models/fp8 one that others
    have quantised."""
    for name, config in (("qwen3", None), ("other", {"model_type": "qwen2_vl"})):
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        if config:
            (folder / "config.json").write_text(json.dumps(config))
            (folder / "model.safetensors").write_bytes(b"\2" + bytes(7) + b"{}")
    shutil.copytree(GARMENTS_CHECKPOINT, tmp_path / "models/fp8")
    config = json.loads((GARMENTS_CHECKPOINT / "config.json").read_text())
    quantised = {"quantization_config": {"quant_method": "fp8"}}
    (tmp_path / "models/fp8/config.json").write_text(json.dumps(config | quantised))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("model", "verdict", "code", "told"),
    [
        ("auto", "good", "model_auto", ""),
        ("garments", "good", "model_here", "garments"),
        (str(GARMENTS_CHECKPOINT), "good", "model_here", ""),
        ("garment", "bad", "model_unknown_near", "Did you mean garments?"),
        ("Garments", "bad", "model_unknown_near", "Did you mean garments?"),
        ("aut", "bad", "model_unknown_near", "Did you mean auto?"),
        ("qwen", "bad", "model_unknown", "Write garments, auto, owner/name"),
        ("./models/qwen", "bad", "model_unknown_near", "Did you mean models/qwen3?"),
        ("/no/such/folder", "bad", "model_unknown", "PRELABEL_MODEL=/no/such/folder"),
        ("models/qwen3", "bad", "model_refused", "is empty: is its disk mounted?"),
        ("models/other", "bad", "model_refused", "qwen2_vl"),
        ("models/fp8", "bad", "model_refused", "quantised already (fp8)"),
        ("modelscope:nonsense", "bad", "model_unknown", ""),
        (DEFAULT_MODEL, "good", "model_download", "is downloaded at the first start"),
        ("Qwen/Qwen3-VL-30B-A3B-Thinking", "good", "model_download", ""),
        ("Qwen/Qwen3-VL-30B-A3B-Instuct", "doubtful", "model_doubtful", f"Did you mean {DEFAULT_MODEL}?"),
        ("Qwen/Qwen3-VL-8B-Instruct", "good", "model_download", ""),
        ("Qwen/Qwen3-VL-8B-Instuct", "doubtful", "model_doubtful", "Did you mean Qwen/Qwen3-VL-8B-Instruct?"),
        ("models/qwen4", "doubtful", "model_doubtful", "Did you mean models/qwen3?"),
        ("models/mine", "doubtful", "model_no_folder", "There is no folder models/mine"),
        ("someone/else", "good", "model_download", ""),
    ],
)
@pytest.mark.usefixtures("here")
def test_a_model_is_judged_before_anything_is_loaded(model: str, verdict: str, code: str, told: str) -> None:
    check = model_check(settings(model=model))
    assert (check.verdict, check.code) == (verdict, code)
    assert told in said(check)


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        ({"model": "garment"}, ["PRELABEL_MODEL=garment is neither"]),
        ({"model": "/nowhere"}, ["PRELABEL_MODEL=/nowhere is neither"]),
        (
            {"label_studio_url": "http://labels/projects/1"},
            ["LABEL_STUDIO_URL=http://labels/projects/1 is"],
        ),
        ({"model": "garment", "label_studio_url": "http://a/user/login"}, ["PRELABEL_MODEL=", "LABEL_STUDIO_URL="]),
    ],
)
def test_serve_refuses_at_once_what_can_never_work(tmp_path: Path, given: dict[str, str], lines: list[str]) -> None:
    with pytest.raises(SettingsError) as refused:
        refuse_hopeless(settings(data_dir=tmp_path, **given))
    told = str(refused.value).splitlines()
    assert len(told) == len(lines)
    assert all(line.startswith(begin) for line, begin in zip(told, lines, strict=True))


def test_serve_refuses_folders_that_cannot_be_written_and_names_their_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file/hf"))
    below = {"data_dir": tmp_path, "quantised_dir": tmp_path / "file/copies"}
    with pytest.raises(SettingsError) as refused:
        refuse_hopeless(settings(model=DEFAULT_MODEL, **below))
    assert {line.partition(":")[0] for line in str(refused.value).splitlines()} == {"HF_HOME", "PRELABEL_QUANTISED_DIR"}
    refuse_hopeless(settings(model="garments", **below))  # puts nothing there


@pytest.mark.parametrize("given", [{}, {"model": "garments"}, {"label_studio_url": "http://127.0.0.1:1/base"}])
def test_serve_starts_with_what_may_work(tmp_path: Path, given: dict[str, str]) -> None:
    refuse_hopeless(settings(data_dir=tmp_path, **given))


@pytest.mark.parametrize(
    ("given", "found", "verdict", "code"),
    [
        ({}, CARD, "good", "card_found"),
        ({"device": "cuda:1"}, CARD, "good", "card_named"),
        ({}, trouble("card_none"), "doubtful", "card_none_for_auto"),  # nobody gets the small model in silence
        ({"model": "garments"}, trouble("card_none"), "unused", "card_not_needed"),
        ({"device": "cpu"}, trouble("card_none"), "unused", "card_not_wanted"),
        ({"device": "cuda"}, trouble("card_none"), "bad", "card_missing"),
        ({"model": DEFAULT_MODEL}, trouble("card_none"), "doubtful", "card_none_for_model"),
        ({}, HIDDEN, "bad", "card_hidden"),
        ({"model": DEFAULT_MODEL}, HIDDEN, "bad", "card_hidden"),
        ({"device": "cuda", "model": "garments"}, HIDDEN, "bad", "card_hidden"),
        ({"model": "garments"}, HIDDEN, "doubtful", "card_hidden"),  # runs on the CPU, and says so
    ],
)
def test_a_card_is_seen_or_not(given: dict[str, str], found: Card | Trouble, verdict: str, code: str) -> None:
    check = card_check(settings(**given), found, "580.95.05")
    assert (check.verdict, check.code) == (verdict, code)
    assert said(check)


@pytest.mark.parametrize(("code", "is_told"), [(running_code(), False), ("of the version before", True)])
def test_an_update_beside_a_running_prelabel_is_told_before_its_engine_is_started_again(
    tmp_path: Path, code: str, is_told: bool
) -> None:
    found = [check for check in running_checks(settings(data_dir=tmp_path), EngineStatus("loading"), code)]
    told = [said(check) for check in found if check.name == "code"]
    assert [text.startswith("prelabel was updated while it ran") for text in told] == [True] * is_told


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "2 x cuda:0"])
@pytest.mark.parametrize("model", ["auto", DEFAULT_MODEL])
def test_a_model_on_cards_is_not_told_to_be_on_a_cpu(tmp_path: Path, device: str, model: str) -> None:
    ready = Ready("Qwen3-VL", "nf4", device, 20.9, 180.0)
    checks = running_checks(settings(data_dir=tmp_path, model=model), EngineStatus("ready", ready=ready))
    assert [check.code for check in checks if check.name == "card"] == ["card_used"]


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (
            EngineStatus("ready", num_running=1, stats=Stats(prefill_tokens=512, most_prefill_tokens=4096)),
            "512 / 4,096",
        ),
        (EngineStatus("ready", num_running=1, stats=Stats(prefill_tokens=4096, most_prefill_tokens=4096)), ""),
        (EngineStatus("ready", stats=Stats(prefill_tokens=512, most_prefill_tokens=4096)), ""),
        (EngineStatus("loading"), ""),
    ],
)
def test_memory_that_falls_short_is_told_while_there_is_work(status: EngineStatus, told: str) -> None:
    checks = engine_checks(status)
    assert [check.code for check in checks] == ["slow_shortage"] * bool(told)
    assert all(f"only {told} tokens" in said(check) for check in checks)
    counted = metrics_text(CollectorRegistry(), status).decode()
    assert ('engine_slower{what="slow_shortage"} 1.0' in counted) == bool(told)


@pytest.mark.parametrize("num_running", [0, 1])
def test_what_slows_the_clock_is_told_while_there_is_work(num_running: int) -> None:
    status = EngineStatus("ready", num_running=num_running, stats=Stats(slower=(("slow_power", "250 / 450 W"),)))
    assert ["250 / 450 W" in said(check) for check in engine_checks(status)] == [True] * num_running


def test_a_card_is_told_with_all_that_matters_of_it() -> None:
    told = said(card_check(settings(), CARD, "580.95.05"))
    assert told == "Some Card: 23.6 GiB, 22.9 GiB of it free; compute capability 8.9, driver 580.95.05"


@pytest.mark.parametrize("code", TEXTS)
def test_every_trouble_with_a_machine_has_words_in_both_languages(code: str) -> None:
    assert CHECKS[code][1] == TEXTS[code]


@pytest.mark.parametrize(
    ("card", "vram_gib", "verdict", "told"),
    [
        (None, None, "unused", "--vram-gib"),
        (Card("", 24.0, 24.0, (8, 9)), None, "good", "= 128 requests at a time (an instruction of 975 tokens that all"),
        (Card("", 23.65, 23.65, (8, 9)), None, "good", "5.28 GiB left for the KV cache = 128 requests"),
        (Card("", 23.65, 22.85, (8, 9)), None, "good", "4.52 GiB left for the KV cache = 120 requests"),
        (Card("", 80.0, 79.0, (8, 9)), 22.0, "good", "fits 22.0 GiB"),
        (Card("", 16.0, 16.0, (8, 9)), None, "bad", "At least 19.1 GiB are needed, and the card offers 16.0 GiB"),
        (Card("", 80.0, 79.0, (8, 9)), 16.0, "bad", "PRELABEL_VRAM_GIB allows 16 of the card's 80.0 GiB"),
        (Card("", 24.0, 10.0, (8, 9)), None, "bad", "other programs leave 10.0 of the card's 24.0 GiB"),
        (Card("", 24.0, 20.5, (8, 9)), None, "doubtful", " of 128 requests can run at a time"),
    ],
)
def test_memory_fits_or_not(card: Card | None, vram_gib: float | None, verdict: str, told: str) -> None:
    check = memory_check(*memory_plan(settings(vram_gib=vram_gib), DEFAULT_MODEL, card))
    assert check.verdict == verdict
    assert told in said(check)


@pytest.mark.parametrize(
    ("model", "downloads_gib", "copies_gib", "same", "verdicts"),
    [
        ("garments", 2, 2, True, ["good"]),
        ("garments", 0.5, 0.5, True, ["doubtful"]),
        (DEFAULT_MODEL, 100, 100, True, ["good"]),
        (DEFAULT_MODEL, 70, 70, True, ["doubtful"]),  # 57.9 to download, 17.9 for the copy
        (DEFAULT_MODEL, 50, 50, True, ["bad"]),
        (DEFAULT_MODEL, 70, 20, False, ["good", "good"]),
        (DEFAULT_MODEL, 70, 10, False, ["good", "doubtful"]),
        (DEFAULT_MODEL, 50, 20, False, ["bad", "good"]),
        (DENSE_8B, 25, 25, True, ["good"]),
        (DENSE_8B, 20, 20, True, ["doubtful"]),  # 16.3 to download, 7.0 for the copy
        (DENSE_8B, 16, 16, True, ["bad"]),
    ],
)
def test_disks_hold_what_the_model_needs(
    tmp_path: Path, model: str, downloads_gib: float, copies_gib: float, same: bool, verdicts: list[str]
) -> None:
    downloads = Disk(Path("/models"), 1, int(downloads_gib * GIB))
    copies = Disk(Path("/data"), 1 if same else 2, int(copies_gib * GIB))
    asked = settings(model=model, data_dir=tmp_path)
    checks = disk_checks(asked, model, memory_plan(asked, model, None)[0], downloads, copies)
    assert [check.verdict for check in checks] == verdicts
    for check in checks:
        assert ("HF_HOME" in said(check)) is (check.verdict != "good")


def test_what_lies_there_of_other_models_is_told_and_no_trouble(tmp_path: Path) -> None:
    asked = settings(model=DENSE_8B, data_dir=tmp_path)
    other = place_for(asked.quantised_folder, DEFAULT_MODEL, None)
    other.mkdir(parents=True)
    disk = Disk(asked.quantised_folder, 1, 100 * GIB)
    *_, check = disk_checks(asked, DENSE_8B, memory_plan(asked, DENSE_8B, None)[0], disk, disk)
    assert (check.verdict, check.code) == ("good", "disk_other_copies")
    assert said(check).endswith(f"Where no other prelabel takes them: rm -r {other}")


def test_a_copy_that_cannot_be_used_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    asked = settings(model=DENSE_8B, data_dir=tmp_path)
    place_for(asked.quantised_folder, DENSE_8B, None).mkdir(parents=True)
    disk = Disk(asked.quantised_folder, 1, 100 * GIB)
    checks = [model_check(asked), *disk_checks(asked, DENSE_8B, memory_plan(asked, DENSE_8B, None)[0], disk, disk)]
    checks += folder_checks(asked, DENSE_8B, on_card=False)
    [told] = [one for one in checks if one.code == "copy_unusable"]
    assert f"the 4-bit copy {place_for(asked.quantised_folder, DENSE_8B, None)} cannot be used" in said(told)
    assert caplog.text == ""


def test_what_triton_builds_its_kernels_with_is_there_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert said(compiler_check()).startswith("There is no C compiler")
    (tmp_path / "gcc").touch(mode=0o755)
    check = compiler_check()
    assert check.code in ("compiler_found", "headers_missing")  # by the Python of this machine
    assert said(check)


@pytest.mark.parametrize("named", ["", "gcc -m64", "/nowhere/gcc"])
def test_a_compiler_that_triton_would_not_find_by_its_name_is_told(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gcc").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", named)
    assert said(compiler_check()).startswith(f"CC={named} is no program")
    monkeypatch.setenv("CC", "gcc")
    assert compiler_check().code in ("compiler_found", "headers_missing")


@pytest.mark.parametrize(
    ("gib", "on_card", "verdict", "told"),
    [
        (None, True, "unused", "does not say"),
        (32, True, "good", "32 GiB of this machine's own memory are free"),
        (3, True, "bad", "let the container have more (--memory)"),
        (12, False, "bad", "On a CPU the model takes at least"),
    ],
)
def test_the_machines_own_memory_suffices_or_not(gib: int | None, on_card: bool, verdict: str, told: str) -> None:
    check = host_memory_check(DEFAULT_MODEL, None if gib is None else gib * GIB, on_card=on_card)
    assert check.verdict == verdict
    assert told in said(check)


@pytest.mark.parametrize(
    ("free", "num_cpus", "needed"), [(None, 64, 0), (107, 2, 108), (108, 2, 0), (355, 64, 356), (10_000, 64, 0)]
)
def test_a_limit_of_threads_that_prelabel_does_not_fit_in_is_warned_of(
    free: int | None, num_cpus: int, needed: int
) -> None:
    checks = thread_checks(free, num_cpus)
    assert [check.verdict for check in checks] == (["doubtful"] if needed else [])
    assert all(
        f"may have {free} more processes and threads, and prelabel takes about {needed}" in said(c) for c in checks
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FileNotFoundError(2, "No such file or directory"), "(No such file or directory): /dev/shm is missing, full"),
        (OSError(28, "No space left on device"), "(No space left on device)"),
        (ImportError("This platform lacks a functioning sem_open"), "(This platform lacks"),
    ],
)
def test_a_machine_whose_processes_can_share_no_memory_is_told_to_mount_it(error: Exception, told: str) -> None:
    def make_lock() -> object:
        raise error

    assert shared_memory_checks() == []
    [check] = shared_memory_checks(make_lock)
    assert check.verdict == "bad"
    assert told in said(check)


def test_a_data_folder_is_writable_or_the_reason_is_told(tmp_path: Path) -> None:
    new = tmp_path / "new" / "data"
    assert data_dir_check(new).verdict in ("good", "doubtful")  # by the room this machine has
    assert not new.exists()
    (tmp_path / "file").write_text("")
    check = data_dir_check(tmp_path / "file" / "data")
    assert check.verdict == "bad"
    assert said(check).startswith(f"PRELABEL_DATA_DIR={tmp_path}/file/data cannot be written (")


def test_a_port_is_free_ours_or_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        check = port_check("127.0.0.1", port, is_prelabel=False)
        assert (check.verdict, "Choose another PRELABEL_PORT" in said(check)) == ("bad", True)
        assert said(port_check("127.0.0.1", port, is_prelabel=True)).endswith("prelabel is running there")
    assert said(port_check("127.0.0.1", 0, is_prelabel=False)) == "127.0.0.1:0 is free"


@pytest.mark.parametrize("texts", [*CHECKS.values(), *NAMES.values()], ids=[*CHECKS, *NAMES])
def test_both_languages_name_the_same_values(texts: tuple[str, str]) -> None:
    names = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in texts]
    assert names[0] == names[1]
    assert all(texts)


LAYER = "24 1 0:52 / / rw,relatime - overlay overlay rw,lowerdir=/a,upperdir=/b,workdir=/c"
VOLUME = "31 24 8:1 /var/lib/docker/volumes/{}/_data /data rw,relatime master:1 - ext4 /dev/sda1 rw"


@pytest.mark.parametrize(
    ("mounts", "goes"),
    [
        pytest.param([LAYER], True, id="a container's own layer"),
        pytest.param([LAYER, VOLUME.format("0a" * 32)], True, id="a volume without a name"),
        pytest.param([LAYER, VOLUME.format("prelabel-data")], False, id="a volume with a name"),
        pytest.param([LAYER, "31 24 8:1 /srv/prelabel /data rw - ext4 /dev/sda1 rw"], False, id="a folder of the host"),
        pytest.param(["24 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw"], False, id="no container"),
        pytest.param(["", "24 1 8:1"], False, id="nothing that is known"),
        pytest.param(None, False, id="no such list"),
    ],
)
def test_a_data_folder_that_goes_with_its_container_is_told(
    tmp_path: Path, mounts: list[str] | None, goes: bool
) -> None:
    if mounts is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/mountinfo").write_text("\n".join(mounts))
    checks = volume_checks(Path("/data/prelabel"), tmp_path)
    assert [check.verdict for check in checks] == ["doubtful"] * goes
    assert all("/data/prelabel goes with this container" in said(check) for check in checks)
