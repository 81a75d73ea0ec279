"""The table at the end of a run says what failed, and what to do about it."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from backend.bulk.summary import summary_table
from backend.reasons import sentence
from tests.backend.bulk.report_rig import SUMMARY, UNREADABLE


def test_each_reason_and_each_problem_is_said_with_what_to_do_about_it() -> None:
    file = io.StringIO()
    failures = {"image_private_address": 3, "of_the_future": 1}
    messages = {"image_private_address": "10.0.0.9 is not allowed"}
    summary = replace(SUMMARY, num_failed=4, failures=failures, messages=messages, left_out=(UNREADABLE,))
    Console(file=file, width=80).print(summary_table(summary))
    text = " ".join(file.getvalue().split())
    assert f"3 image_private_address: {sentence('image_private_address')} (The first: 10.0.0.9 is not allowed)" in text
    assert "PRELABEL_ALLOWED_NETWORKS" in text
    assert "1 of_the_future" in text
    assert sentence("folder_unreadable").split(". ")[0] + ": /a (Permission denied). Let the user" in text
