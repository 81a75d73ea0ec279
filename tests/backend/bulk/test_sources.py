"""Which pictures a folder holds, whatever its names and links are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backend.bulk.items import Found
from backend.bulk.sources import MAX_NOTES, Notes, check_sources, find_pictures
from backend.errors import UsageError
from tests.backend.bulk.given import pictures

LONG = "长" * 80


def _found(*sources: Path | str, notes: Notes | None = None) -> list[Found]:
    return list(find_pictures([str(source) for source in sources], "image", notes or Notes()))


def _stems(*sources: Path | str) -> list[str]:
    return [found.stem for found in _found(*sources)]


def test_a_folder_is_read_with_its_subfolders_in_order_of_names(tmp_path: Path) -> None:
    pictures(tmp_path, ["b.png", "a.jpg", "sub/2.PNG", "sub/1.webp", "sub/deep/x.tiff", "another/y.gif", "IMG_1.HEIC"])
    assert _stems(tmp_path) == ["IMG_1", "a", "b", "another/y", "sub/1", "sub/2", "sub/deep/x"]


@pytest.mark.parametrize(
    "name",
    [
        "a b .png",
        "连衣裙 白色.png",
        "👗👠.png",
        "=cmd.png",
        "-o.png",
        "a\nb.png",
        "%41+&?#.png",
        f"{LONG}.png",
        "a.b.c.png",
    ],
    ids=["spaces", "Chinese", "emoji", "formula", "option", "line break", "address signs", "very long", "dots"],
)
def test_odd_names_are_found_as_they_are(tmp_path: Path, name: str) -> None:
    pictures(tmp_path, [name])
    (found,) = _found(tmp_path)
    assert found.image == str(tmp_path / name)
    assert found.stem == name.removesuffix(".png")


def test_a_name_that_is_no_text_is_found_too(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xfe.png")
    pictures(tmp_path, [name])
    assert os.fsencode(_found(tmp_path)[0].image) == os.fsencode(tmp_path / name)


def test_hidden_files_and_files_that_are_no_pictures_are_passed_over(tmp_path: Path) -> None:
    pictures(tmp_path, [".a.png", "._b.jpg", ".hidden/c.png", "notes.txt", "list.csv", "d.svg", "e.png", "png"])
    assert _stems(tmp_path) == ["e"]


def test_a_file_named_by_itself_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    pictures(tmp_path, ["photo", ".hidden.png"])
    assert _stems(tmp_path / "photo", tmp_path / ".hidden.png") == ["photo", ".hidden"]


def test_links_that_lead_round_in_circles_end(tmp_path: Path) -> None:
    pictures(tmp_path, ["a.png", "sub/b.png"])
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    (tmp_path / "other").symlink_to(tmp_path / "sub")
    notes = Notes()
    assert [found.stem for found in _found(tmp_path, notes=notes)] == ["a", "self", "other/b"]
    assert len(notes.harmless) == 2
    assert not notes.lost


def test_a_link_to_a_picture_is_the_picture_it_leads_to(tmp_path: Path) -> None:
    pictures(tmp_path, ["real/a.png"])
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "b.png").symlink_to(tmp_path / "real" / "a.png")
    assert {found.image for found in _found(tmp_path)} == {str(tmp_path / "real" / "a.png")}


def test_a_picture_has_one_path_however_its_folder_is_reached(tmp_path: Path) -> None:
    pictures(tmp_path, ["real/sub/a.png"])
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "link").symlink_to(tmp_path / "real")
    wanted = str(tmp_path / "real" / "sub" / "a.png")
    assert [found.image for found in _found(tmp_path / "shop")] == [wanted]
    assert [found.image for found in _found(tmp_path / "shop" / "link" / "sub")] == [wanted]


def test_a_folder_that_cannot_be_read_is_told_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path, ["a.png", "closed/b.png", "open/c.png"])
    scandir = os.scandir

    def guarded(path: str) -> object:
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    notes = Notes()
    assert [found.stem for found in _found(tmp_path, notes=notes)] == ["a", "open/c"]
    assert notes.lost == [f"the folder {tmp_path / 'closed'} cannot be read (Permission denied)"]


def test_notes_do_not_grow_without_end() -> None:
    notes = Notes()
    for number in range(1_000):
        notes.add(str(number), is_lost=True)
    assert len(notes.lost) == MAX_NOTES + 1


def test_a_deep_tree_of_folders_is_no_matter(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(200):
        deep = deep / "d"
    pictures(deep, ["x.png"])
    assert _stems(tmp_path) == ["d/" * 200 + "x"]


def test_an_address_is_a_source(tmp_path: Path) -> None:
    (found,) = _found("https://shop.example/a/%E8%A3%99.jpg?sign=1")
    assert (found.stem, found.is_file) == ("裙", False)


@pytest.mark.parametrize("source", ["nothing", "no\0path"], ids=["not there", "no path"])
def test_a_source_that_is_not_there_is_refused_by_name(tmp_path: Path, source: str) -> None:
    with pytest.raises(UsageError, match=r"SOURCE .* cannot be read"):
        check_sources([str(tmp_path / source)])


def test_a_source_that_is_neither_file_nor_folder_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="neither a file nor a folder"):
        check_sources([str(tmp_path / "pipe")])
