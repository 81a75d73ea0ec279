"""`prelabel quality`: which of its forms is asked for.

Raises UsageError where an option has no say in that form, so that nobody thinks it did anything; and what the form
raises.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path

from backend.commands.quality import quality
from backend.commands.quality_project import quality_of_project
from backend.commands.rule_proposals import propose_rules
from backend.commands.rule_try import try_rule
from backend.errors import UsageError
from backend.quality.project import Asked
from backend.quality.threshold import DELTA, TARGET
from backend.settings import Settings

_FORMS: dict[str, frozenset[str]] = {
    "try_rule": frozenset({"project", "since", "blind", "json_output", "adopt"}),
    "propose_rules": frozenset({"project", "since", "blind", "json_output"}),
    "apply_calibration": frozenset({"project", "since", "target", "confidence", "blind", "json_output", "report"}),
    "project": frozenset({"since", "target", "confidence", "blind", "json_output", "report", "apply"}),
    "records": frozenset({"truth", "label_config", "target", "confidence", "blind", "json_output", "report"}),
}
"""By the option that asks for it, those that may be said beside that."""
_NAMES = {"records": "RECORDS", "json_output": "--json"}


@dataclass(frozen=True, slots=True)
class QualityOptions:
    """The options of the command, by their names; None and False: not said."""

    records: Path | None
    truth: Path | None
    project: int | None
    since: datetime | None
    label_config: str | None
    target: float | None
    confidence: float | None
    blind: bool
    json_output: bool
    report: Path | None
    apply: bool
    propose_rules: bool
    try_rule: str | None
    adopt: bool
    apply_calibration: bool

    @property
    def said(self) -> list[str]:
        return [one.name for one in fields(self) if getattr(self, one.name) not in (None, False)]

    @property
    def asked(self) -> Asked:
        return Asked(
            TARGET if self.target is None else round(1 - self.target, 6),
            DELTA if self.confidence is None else round(1 - self.confidence, 6),
            self.since.timestamp() if self.since else 0.0,
            self.blind,
        )


def run_quality(settings: Settings, options: QualityOptions) -> int:
    form, records, truth = _form(options), options.records, options.truth
    number, asked, json_output, report = options.project, options.asked, options.json_output, options.report
    if records is not None and truth is not None:
        config = options.label_config
        return quality(settings, records, truth, asked, label_config=config, json_output=json_output, report=report)
    if number is None:
        needs = "Give RECORDS and --truth FILE, or" if form in ("", "records") else f"{_name(form)} needs"
        raise UsageError(f"{needs} --project ID.")
    if options.try_rule is not None:
        return try_rule(settings, number, options.try_rule, asked, adopt=options.adopt, json_output=json_output)
    if options.propose_rules:
        return propose_rules(settings, number, asked, json_output=json_output)
    apply, calibrate = options.apply, options.apply_calibration
    return quality_of_project(
        settings, number, asked, json_output=json_output, report=report, apply=apply, calibrate=calibrate
    )


def _form(options: QualityOptions) -> str:
    """Which is asked for; "" for none."""
    form = next((form for form in _FORMS if form in options.said), "")
    for other in options.said if form else ():
        if other != form and other not in _FORMS[form]:
            goes = " or ".join(_name(name) for name, beside in _FORMS.items() if other in beside)
            where = f" ({_name(other)} goes with {goes})" if goes else ""
            raise UsageError(f"{_name(other)} and {_name(form)} do not go together{where}: leave one of them out.")
    return form


def _name(option: str) -> str:
    return _NAMES.get(option, f"--{option.replace('_', '-')}")
