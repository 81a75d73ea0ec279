"""The label config of a bulk run: the one that was named, or the one that goes with the loaded model.

Raises UsageError for one that cannot be used.
"""

from __future__ import annotations

from dataclasses import dataclass

from backend.errors import ConfigRefused, UsageError
from backend.predict.label_configs import default_label_config, parse_or_refuse, read_label_config
from label_config.schema import LabelSchema

_BUILT_IN = "garments"


@dataclass(frozen=True, slots=True)
class LabelConfig:
    """`xml` is what Label Studio reads, `schema` what it says."""

    xml: str
    schema: LabelSchema


def label_config_called(name_or_path: str) -> LabelConfig:
    try:
        xml = read_label_config(name_or_path)
        return LabelConfig(xml, parse_or_refuse(xml))
    except ConfigRefused as error:
        raise UsageError(str(error)) from None


def label_config_for(model_name: str, language: str) -> LabelConfig:
    """The ready-made one. `model_name` may be a model version, which begins with the model's name."""
    name = _BUILT_IN if model_name == _BUILT_IN or model_name.startswith(f"{_BUILT_IN}-") else model_name
    return label_config_called(default_label_config(name, language))
