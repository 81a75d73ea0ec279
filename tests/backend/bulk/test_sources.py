"""Which pictures a folder holds, whatever its names and links are."""

from __future__ import annotations

import builtins
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from backend.bulk.items import Found
from backend.bulk.left_out import MAX_EXAMPLES, LeftOut
from backend.bulk.lists import ListOptions
from backend.bulk.sources import check_sources, find_pictures
from backend.errors import UsageError
from tests.backend.bulk.given import pictures

LONG = "长" * 80


def _found(*sources: Path | str, left_out: LeftOut | None = None) -> list[Found]:
    return list(find_pictures([str(source) for source in sources], ListOptions("image"), left_out or LeftOut()))


def _reasons(left_out: LeftOut) -> dict[str, int]:
    return {group.reason: group.num for group in left_out.groups}


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


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("main.jpg!800x800", "main"),
        ("item.jpg_400x400q90", "item"),
        ("x.jpg@100w", "x"),
        ("O1CN01def_!!2202-0-cib", "O1CN01def_!!2202-0-cib"),
        ("O1CN01abc_!!2201.jpg_.webp", "O1CN01abc_!!2201.jpg_"),
        ("a.png?x-oss-process=image", "a"),
        ("v1.5 red", "v1.5 red"),
        ("photo.jpg.download", "photo.jpg.download"),
        ("download.php", "download.php"),
        ("notes.txt", "notes.txt"),
    ],
)
def test_a_picture_is_one_whatever_it_is_called(tmp_path: Path, name: str, stem: str) -> None:
    pictures(tmp_path, [name])
    left_out = LeftOut()
    assert [found.stem for found in _found(tmp_path, left_out=left_out)] == [stem]
    assert not left_out.groups


def test_a_picture_of_any_format_we_read_is_one_without_a_suffix(tmp_path: Path) -> None:
    for name in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF"):
        Image.new("RGB", (8, 8)).save(tmp_path / name, name)
    assert len(_found(tmp_path)) == 7


FTYP = b"\x00\x00\x00\x18ftyp"


@pytest.mark.parametrize(
    ("name", "content", "reason", "what"),
    [
        ("notes.txt", b"notes", "not_a_picture", "text"),
        ("BMW.txt", b"BMW is not what a BMP begins with, is it?", "not_a_picture", "text"),
        ("Thumbs.db", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "not_a_picture", "unknown"),
        ("d.svg", b"<svg xmlns='x'/>", "not_a_picture", "SVG"),
        ("a.psd", b"8BPS\x00\x01", "not_a_picture", "PSD"),
        ("page", b"<!DOCTYPE html><p>", "not_a_picture", "HTML"),
        ("v.mp4", FTYP + b"isom\x00\x00\x02\x00isomiso2", "not_a_picture", "video"),
        ("a.jxl", b"\xff\x0a\x00", "unread_format", "JPEG XL"),
        ("a.cr2", b"II*\x00\x10\x00\x00\x00CR", "unread_format", "raw"),
        ("empty", b"", "empty_file", ""),
        (".a.png", b"x", "hidden_file", ""),
        ("._b.jpg", b"x", "hidden_file", ""),
        (".hidden/c.png", b"x", "hidden_file", ""),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_left_out_by_reason_and_named(
    tmp_path: Path, name: str, content: bytes, reason: str, what: str
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content)
    left_out = LeftOut()
    assert not _found(tmp_path, left_out=left_out)
    (group,) = left_out.groups
    assert (group.reason, group.num) == (reason, 1)
    assert name.split("/")[0] in group.shown
    assert what in group.shown


def test_pipes_broken_links_and_closed_files_are_left_out_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "closed").write_bytes(b"x")
    opened = open

    def guarded(path: str, *arguments: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments)

    monkeypatch.setattr(builtins, "open", guarded)
    left_out = LeftOut()
    assert not _found(tmp_path, left_out=left_out)
    assert _reasons(left_out) == {"special_file": 1, "broken_link": 1, "file_unreadable": 1}


def test_a_file_named_by_itself_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    pictures(tmp_path, ["photo", ".hidden.png"])
    assert _stems(tmp_path / "photo", tmp_path / ".hidden.png") == ["photo", ".hidden"]


def test_links_that_lead_round_in_circles_end(tmp_path: Path) -> None:
    pictures(tmp_path, ["a.png", "sub/b.png"])
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    (tmp_path / "other").symlink_to(tmp_path / "sub")
    left_out = LeftOut()
    assert [found.stem for found in _found(tmp_path, left_out=left_out)] == ["a", "self", "other/b"]
    assert _reasons(left_out) == {"folder_twice": 2, "broken_link": 1}


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
    left_out = LeftOut()
    assert [found.stem for found in _found(tmp_path, left_out=left_out)] == ["a", "open/c"]
    (group,) = left_out.groups
    assert (group.reason, group.is_lost) == ("folder_unreadable", True)
    assert group.examples == (f"{tmp_path / 'closed'} (Permission denied)",)


def test_what_is_left_out_is_counted_to_the_last_and_named_up_to_a_limit() -> None:
    left_out = LeftOut()
    for number in range(1_000):
        left_out.add("hidden_file", str(number))
    (group,) = left_out.groups
    assert (group.num, len(group.examples)) == (1_000, MAX_EXAMPLES)
    assert group.shown == "0, 1, 2 and 997 more"


def test_an_address_that_is_named_as_an_example_shows_no_key() -> None:
    left_out = LeftOut()
    left_out.add("named_twice", "https://me:secret@shop.example/a.jpg?sign=secret")
    assert "secret" not in left_out.groups[0].shown


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
