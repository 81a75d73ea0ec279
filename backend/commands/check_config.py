"""`prelabel doctor --label-config`: what prelabel makes of a label config: filled, left out, where Label Studio's form
misleads or loses a value. With `--fix` the config that keeps those values goes to stdout, and the rest to stderr.

Raises ConfigRefused. Exit code 1 where no task could be answered.
"""

from __future__ import annotations

import sys

from rich.console import Console

from backend.commands.printed import printed
from backend.engine.grammar_check import grammar_problem
from backend.predict.label_configs import parse_or_refuse, read_label_config
from backend.predict.options import ProjectOptions
from backend.predict.recipe import text_max_chars
from label_config.lint import rewritten
from label_config.schema import LabelSchema


def check_label_config(name_or_path: str, *, fix: bool) -> int:
    """Print what there is to say about the label config, and return the exit code."""
    xml = read_label_config(name_or_path)
    schema = parse_or_refuse(xml)
    console = Console(highlight=False, stderr=fix)
    problem = unanswerable(schema)
    explain_config(console, schema)
    if problem:
        console.print(f"  [bold red]no task can be answered:[/] {printed(problem)}", soft_wrap=True)
    if fix:
        better = rewritten(xml)
        console.print("  rewritten" if better else "  nothing to rewrite: the config is printed as it is")
        for trap in parse_or_refuse(better or xml).traps:
            console.print(f"  [yellow]left as it is:[/] {printed(trap)}", soft_wrap=True)
        sys.stdout.write(better or xml)
    return 1 if problem else 0


def unanswerable(schema: LabelSchema) -> str:
    """Why no task of `schema` can be answered, "" if they can."""
    return grammar_problem(schema, text_max_chars(ProjectOptions()))


def explain_config(console: Console, schema: LabelSchema) -> None:
    """The fields that are filled, what is left out, and where the form misleads."""
    names = ", ".join(field.name for field in schema.fields)
    console.print(f"  pre-filled: {printed(names)}", soft_wrap=True)
    for warning in schema.warnings:
        console.print(f"  left out:   {printed(warning)}", soft_wrap=True)
    for trap in schema.traps:
        console.print(f"  [yellow]form:[/]       {printed(trap)}", soft_wrap=True)
