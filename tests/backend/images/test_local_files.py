from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from backend.errors import ImageError, SettingsError
from backend.images import ImageFetcher, ImagePolicy, Limits
from backend.images.files import read_file
from tests.backend.images.conftest import fetch, policy, refusal
from tests.backend.images.pictures import png
from tests.backend.images.site import Site


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with one picture, beside a secret one."""
    root = tmp_path / "pictures"
    (root / "shop").mkdir(parents=True)
    (root / "shop" / "连衣裙 1.png").write_bytes(png())
    (root / "shop" / "back\\slash.png").write_bytes(png())
    (tmp_path / "secret.png").write_bytes(png())
    return root


@pytest.mark.parametrize(
    "field",
    [
        "/data/local-files/?d=shop/%E8%BF%9E%E8%A1%A3%E8%A3%99%201.png",
        "/data/local-files?d=shop/连衣裙 1.png",
        "/data/local-files/?d=/shop/./x/../连衣裙%201.png",
        "/data/local-files/?d=ignored.png&d=shop/连衣裙+1.png",
        "http://ls.example.com/data/local-files/?d=shop/连衣裙%201.png",
        "http://LS.example.com:80/data/local-files/?d=shop%5C连衣裙%201.png",
        "/data/local-files/?d=shop%5C%E8%BF%9E%E8%A1%A3%E8%A3%99%201.png",
        "/data/local-files/?d=shop%5c连衣裙+1.png",
        "/data/local-files/?d=shop\\连衣裙 1.png",
        "/data/local-files/?d=\\shop\\.\\连衣裙 1.png",
        "\\data\\local-files\\?d=shop\\连衣裙 1.png",
        "/data/local-files/?d=shop/back%5Cslash.png",
    ],
)
def test_a_file_below_the_root_is_read_from_the_disk(root: Path, field: str) -> None:
    rules = policy(local_files_root=root, label_studio_url="http://ls.example.com")
    assert fetch(field, rules).picture.rgb


@pytest.mark.parametrize(
    "field",
    [
        "/data/local-files/?d=../secret.png",
        "/data/local-files/?d=%2e%2e/secret.png",
        "/data/local-files/?d=shop/../../secret.png",
        "/data/local-files/?d=..%2fsecret.png",
        "/data/local-files/?d=",
        "/data/local-files/?x=1",
        "/data/local-files/?d=.",
        "/data/local-files/?d=a%00.png",
        "/data/local-files/?d=shop",
        "/data/local-files/?d=pipe",
        "/data/local-files/?d=link.png",
        "/data/local-files/?d=folder_link/secret.png",
        "/data/local-files/?d=zero",
        "\\\\host\\share\\a.png",
        "/data/local-files/?d=..%5Csecret.png",
        "/data/local-files/?d=shop%5C..%5C..%5Csecret.png",
        "/data/local-files/?d=%5C",
        "/data/upload/../../secret.png",
    ],
)
def test_what_leaves_the_root_or_is_no_file_is_refused(root: Path, field: str) -> None:
    os.mkfifo(root / "pipe")
    (root / "link.png").symlink_to(root.parent / "secret.png")
    (root / "folder_link").symlink_to(root.parent)
    (root / "zero").symlink_to("/dev/zero")
    assert refusal(field, policy(local_files_root=root)).kind == "blocked"


@pytest.mark.parametrize(
    "field", ["file:///etc/passwd", "/etc/passwd", "../a.png", "C:/a.png", "D:\\a.png", "a.png", "FILE:/a"]
)
def test_a_plain_path_is_not_a_source(root: Path, field: str) -> None:
    assert refusal(field, policy(local_files_root=root)).kind == "unsupported_source"


def test_a_link_that_stays_below_the_root_is_followed(root: Path) -> None:
    (root / "link.png").symlink_to(root / "shop" / "连衣裙 1.png")
    assert fetch("/data/local-files/?d=link.png", policy(local_files_root=root)).picture.rgb


@pytest.mark.parametrize("name", ["gone.png", "gone/a.png", "loop.png", "x" * 300])
def test_a_missing_file_is_not_found(root: Path, name: str) -> None:
    (root / "loop.png").symlink_to(root / "loop.png")
    assert refusal(f"/data/local-files/?d={name}", policy(local_files_root=root)).kind == "not_found"


def test_a_large_file_is_refused(root: Path) -> None:
    with (root / "large.png").open("wb") as file:
        file.truncate(2_000_000_000)
    assert refusal("/data/local-files/?d=large.png", policy(local_files_root=root)).kind == "too_large"


def test_another_host_cannot_name_a_local_file(root: Path, site: Site) -> None:
    rules = policy(local_files_root=root, label_studio_url="http://ls.example.com")
    assert refusal(site.url("/data/local-files/?d=shop/连衣裙%201.png"), rules).kind == "not_found"
    assert site.paths() == ["/data/local-files/?d=shop/%E8%BF%9E%E8%A1%A3%E8%A3%99%201.png"]


def test_the_whole_disk_cannot_be_the_root(tmp_path: Path) -> None:
    (tmp_path / "root").symlink_to("/")
    for root in (Path("/"), tmp_path / "root", tmp_path / "missing"):
        with pytest.raises(SettingsError, match="PRELABEL_LOCAL_FILES_ROOT"):
            ImagePolicy(local_files_root=root)


def read(path: Path) -> str:
    async def run() -> str:
        fetcher = ImageFetcher(ImagePolicy(limits=Limits(max_bytes=10_000)))
        try:
            return (await fetcher.fetch_file(path)).sha256
        finally:
            await fetcher.aclose()

    return asyncio.run(run())


def test_the_command_line_reads_any_regular_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    assert read(tmp_path / "link.png") == hashlib.sha256(png()).hexdigest()


@pytest.mark.parametrize(("name", "kind"), [("gone", "not_found"), ("pipe", "blocked"), ("folder", "blocked")])
def test_the_command_line_refuses_what_is_no_file(tmp_path: Path, name: str, kind: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ImageError) as caught:
        read(tmp_path / name)
    assert caught.value.kind == kind


def test_a_file_whose_size_the_file_system_does_not_know_is_read_whole() -> None:
    path = Path("/proc/self/status")
    assert path.stat().st_size == 0
    assert read_file(path, 100_000).startswith(b"Name:")
    with pytest.raises(ImageError, match="larger"):
        read_file(path, 10)
