"""What the demo says while the backend works."""

from __future__ import annotations

from pathlib import Path

from backend.commands.demo.fill import progress_line
from backend.commands.demo.run import PICTURES
from backend.status.reading import StatusReader
from tests.backend.status.rig import NOW, finished, queued, status_site

PROJECT = "12.1700000000"


def said(url: str) -> str:
    with StatusReader(url) as reader:
        view = reader.view()
    return progress_line(view, view.projects[0])


def test_a_line_tells_progress_speed_time_left_and_what_is_delivered(tmp_path: Path) -> None:
    with status_site(tmp_path) as site:
        works = queued(site.store, PROJECT, range(1, 31), NOW - 10)
        assert said(site.url) == "  0 of 30 answered"
        finished(site.store, works[:12], NOW - 4, needs_review=2)
        site.store.delivered([work.id for work in works[:7]], NOW)
        assert said(site.url) == "  12 of 30 answered, 1.2 img/s, 15 s left, 7 delivered, 2 to review"
        site.store.fail(works[12].id, "image_timeout", "The picture did not arrive.", NOW - 4)
        finished(site.store, works[13:], NOW)
        assert said(site.url) == "  29 of 30 answered, 3.0 img/s, 7 delivered, 2 to review, 1 failed"


def test_the_demo_has_its_pictures() -> None:
    assert (PICTURES / "labels.json").is_file()
