"""One click on Retrieve Predictions while servers are killed: `python -m benchmarks.retrieval [--json FILE] [--quick]`.

A real Label Studio, a real `prelabel serve` with the built-in model, a project joined as `prelabel connect` joins it,
every task another picture. Label Studio's own action is clicked once for all tasks. Rounds, each with a project and a
backend of its own:
- undisturbed;
- killed: the backend dies by SIGKILL `--kills` times (first within the click, as soon as it has accepted every task;
  last while it brings predictions to Label Studio), and Label Studio dies once. Both are started again where they were;
- reply: Label Studio dies while it stores what the backend's reply held;
- stock: the same click on label-studio-ml's own server (benchmarks.retrieval_stock).
In the end Label Studio is asked what it has: each task must have one prediction. The exit code is 1 where one has not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from backend.commands.demo.local_label_studio import find_label_studio, running_label_studio
from backend.label_studio.client import LabelStudioClient
from benchmarks.pictures import picture_server
from benchmarks.report import hardware, print_table, write_json
from benchmarks.retrieval_rounds import Bench, plan, prelabel_round, stock_round
from benchmarks.retrieval_site import MeasuredLabelStudio, Server, Site

ROUNDS = ("undisturbed", "killed", "reply", "stock")


def main(arguments: Sequence[str] | None = None) -> int:
    args = _arguments(arguments)
    with tempfile.TemporaryDirectory() as temporary, picture_server(args.tasks) as pictures:
        folder = Path(temporary)
        planned = replace(MeasuredLabelStudio.planned(folder / "label-studio"), patience_s=args.patience)
        program = find_label_studio()
        with (
            Server("Label Studio", lambda: running_label_studio(program, planned)) as label_studio,
            LabelStudioClient(planned.url, planned.api_key) as client,
        ):
            access = {"LABEL_STUDIO_URL": planned.url, "LABEL_STUDIO_API_KEY": planned.api_key}
            site = Site(planned, client)
            bench = Bench(site, label_studio, access, pictures, folder, args.tasks, args.deadline, args.patience)
            rounds = {}
            for name in args.rounds:
                print(f"\n{name}:", flush=True)
                blows = plan(name, args.tasks, args.kills, quick=args.quick)
                rounds[name] = stock_round(bench) if name == "stock" else prelabel_round(bench, name, blows)
    document = {"tasks": args.tasks, "deadline_s": args.deadline, "patience_s": args.patience, "rounds": rounds}
    _print(document)
    if args.json:
        write_json(args.json, document)
    return 0 if all(found["exactly_one_each"] for name, found in rounds.items() if name != "stock") else 1


def _print(document: Mapping[str, Any]) -> None:
    print(
        f"\n{hardware()}; one click for {document['tasks']} tasks; Label Studio waits {document['patience_s']:g} s, "
        f"prelabel answers after {document['deadline_s']:g} s\n"
    )
    print_table(_HEADER, [_row(name, found) for name, found in document["rounds"].items()])
    print("\nkills: of the backend + of Label Studio; at click: predictions in Label Studio when the click returned")
    for name, found in document["rounds"].items():
        print(f"{name}: the click returned after {found['click_s']:.1f} s: {found['click_said']}")
        if "answered" in found:
            print(f"{name}: {found['answered']} pictures were answered by then, {found['predictions']} are kept")


_HEADER = (
    "round", "tasks", "predictions", "without", "duplicates", "kills", "click s", "at click", "in the reply", "pushed",
    "last after s", "images/s",
)  # fmt: skip


def _row(name: str, found: Mapping[str, Any]) -> list[str]:
    struck = [kill["server"] for kill in found.get("kills", ())]
    return [
        name,
        *(str(found[key]) for key in ("tasks", "predictions", "without", "duplicates")),
        f"{struck.count('backend')}+{struck.count('Label Studio')}",
        f"{found['click_s']:.1f}",
        str(found["there_when_the_click_returned"]),
        str(found["in_reply"]),
        _pushed(found),
        *((f"{found[key]:.1f}" if key in found else "-") for key in ("last_s", "images_per_s")),
    ]


def _pushed(found: Mapping[str, Any]) -> str:
    """A Label Studio that dies while it stores a reply keeps part of it: then more than the rest was pushed."""
    lost = any(kill["within_click"] and kill["server"] == "Label Studio" for kill in found.get("kills", ()))
    return f"{max(0, found['predictions'] - found['in_reply'])}{'+' if lost and found['in_reply'] else ''}"


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, help="tasks in the project, each another picture, at most 10,000")
    parser.add_argument("--deadline", type=float, help="seconds that prelabel takes for a reply")
    parser.add_argument("--patience", type=float, help="seconds that Label Studio waits for a reply")
    parser.add_argument("--kills", type=int, help="how often the backend is killed")
    parser.add_argument("--rounds", nargs="+", choices=ROUNDS, help="which to run")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--quick", action="store_true", help="few tasks, one kill, a hasty Label Studio")
    chosen = parser.parse_args(arguments)
    usual = {"tasks": 2_000, "deadline": 10.0, "patience": 100.0, "kills": 3, "rounds": list(ROUNDS)}
    quick = {"tasks": 200, "deadline": 3.0, "patience": 5.0, "kills": 1, "rounds": ["killed", "stock"]}
    for name, value in (quick if chosen.quick else usual).items():
        if getattr(chosen, name) is None:
            setattr(chosen, name, value)
    if not 4 <= chosen.tasks <= 10_000 or chosen.kills < 0:
        parser.error("--tasks is 4 to 10000, and --kills is not negative")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
