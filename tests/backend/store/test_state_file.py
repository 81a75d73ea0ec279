from __future__ import annotations

import os
from pathlib import Path

import pytest

from backend.errors import SettingsError
from backend.store.state_file import StateFile, prepare_data_dir


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    StateFile(tmp_path / "s.json").save({"项目": {"language": "zh"}})
    assert StateFile(tmp_path / "s.json").load() == {"项目": {"language": "zh"}}
    assert [p.name for p in tmp_path.iterdir()] == ["s.json"]


def test_no_file_is_an_empty_state(tmp_path: Path) -> None:
    assert StateFile(tmp_path / "s.json").load() == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 5000], ids=repr)
def test_an_unreadable_file_is_kept_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.json").write_bytes(content)
    assert StateFile(tmp_path / "s.json").load() == {}
    (kept,) = tmp_path.iterdir()
    assert kept.name.startswith("s.json.unreadable-")
    assert kept.read_bytes() == content


def test_a_failed_save_leaves_the_old_state_and_no_rubbish(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "s.json")
    state.save({"a": 1})
    with pytest.raises(TypeError):
        state.save({"a": object()})
    assert state.load() == {"a": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_missing_data_folder_is_made(tmp_path: Path) -> None:
    prepare_data_dir(tmp_path / "a" / "b")
    assert os.listdir(tmp_path / "a" / "b") == []


def test_a_data_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(SettingsError, match="PRELABEL_DATA_DIR"):
        prepare_data_dir(tmp_path / "data")
