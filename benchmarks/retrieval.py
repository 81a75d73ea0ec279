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
from pathlib import Path
from typing import Any

from backend.commands.demo.local_label_studio import find_label_studio, running_label_studio
from backend.label_studio.client import LabelStudioClient
from benchmarks.pictures import picture_server
from benchmarks.report import hardware, options, print_table, write_json
from benchmarks.retrieval_rounds import Bench, plan, prelabel_round, stock_round
from benchmarks.retrieval_site import MeasuredLabelStudio, Server, Site

ROUNDS = ("undisturbed", "killed", "reply", "stock")
HEADER = (
    "round", "tasks", "predictions", "without", "duplicates", "kills", "click s", "at click", "in the reply", "pushed",
    "last after s", "images/s",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    args = _arguments(arguments)
    with tempfile.TemporaryDirectory() as temporary, picture_server() as pictures:
        folder, program = Path(temporary), find_label_studio()
        planned = MeasuredLabelStudio.with_patience(folder / "label-studio", args.patience)
        with (
            Server("Label Studio", lambda: running_label_studio(program, planned)) as label_studio,
            LabelStudioClient(planned.url, planned.api_key) as client,
        ):
            bench = Bench(Site(planned, client), label_studio, pictures, folder, args.tasks, args.deadline)
            rounds: dict[str, Any] = {}
            for name in args.rounds:
                print(f"\n{name}:", flush=True)
                blows = plan(name, args.tasks, args.kills, quick=args.quick)
                rounds[name] = stock_round(bench) if name == "stock" else prelabel_round(bench, name, blows)
    print(
        f"\n{hardware()}; one click for {args.tasks} tasks; Label Studio waits {args.patience:g} s, prelabel answers "
        f"after {args.deadline:g} s\n"
    )
    print_table(HEADER, [_cells(name, found) for name, found in rounds.items()])
    print("\nkills: of the backend + of Label Studio; at click: predictions in Label Studio when the click returned")
    for name, found in rounds.items():
        print(f"{name}: the click returned after {found['click_s']:.1f} s: {found['click_said']}")
        if "answered" in found:
            print(f"{name}: {found['answered']} pictures were answered by then, {found['predictions']} are kept")
    if args.json:
        conditions = {"tasks": args.tasks, "deadline_s": args.deadline, "patience_s": args.patience}
        write_json(args.json, {**conditions, "rounds": rounds})
    return 0 if all(found["exactly_one_each"] for name, found in rounds.items() if name != "stock") else 1


def _cells(name: str, found: Mapping[str, Any]) -> list[str]:
    kills = found.get("kills", ())
    struck = [kill["server"] for kill in kills]
    # a Label Studio that dies while it stores a reply keeps part of it: then more than the rest was pushed
    lost = found["in_reply"] and any(kill["within_click"] and kill["server"] == "Label Studio" for kill in kills)
    return [
        name,
        *(str(found[key]) for key in ("tasks", "predictions", "without", "duplicates")),
        f"{struck.count('backend')}+{struck.count('Label Studio')}",
        f"{found['click_s']:.1f}",
        str(found["there_when_the_click_returned"]),
        str(found["in_reply"]),
        f"{max(0, found['predictions'] - found['in_reply'])}{'+' if lost else ''}",
        *((f"{found[key]:.1f}" if key in found else "-") for key in ("last_s", "images_per_s")),
    ]


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = options(__doc__)
    parser.add_argument("--tasks", type=int, help="tasks in the project, each another picture, at most 10,000")
    parser.add_argument("--deadline", type=float, help="seconds that prelabel takes for a reply")
    parser.add_argument("--patience", type=float, help="seconds that Label Studio waits for a reply")
    parser.add_argument("--kills", type=int, help="how often the backend is killed")
    parser.add_argument("--rounds", nargs="+", choices=ROUNDS, help="which to run")
    parser.add_argument("--quick", action="store_true", help="few tasks, one kill, a hasty Label Studio")
    usual = {"tasks": 2_000, "deadline": 10.0, "patience": 100.0, "kills": 3, "rounds": list(ROUNDS)}
    quick = {"tasks": 200, "deadline": 3.0, "patience": 5.0, "kills": 1, "rounds": ["killed", "stock"]}
    args = parser.parse_args(arguments)
    given = {name: value for name, value in vars(args).items() if value is not None}
    args = argparse.Namespace(**({"json": None} | (quick if args.quick else usual) | given))
    if not 4 <= args.tasks <= 10_000 or args.kills < 0:
        parser.error("--tasks is 4 to 10000, and --kills is not negative")
    return args


if __name__ == "__main__":
    sys.exit(main())
