"""Label Studio's own check of a prediction against a label config, before it is imported. Raises OutputError."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from backend.errors import OutputError


def prediction_check(label_config: str) -> Callable[[Mapping[str, Any], str], None]:
    """A function of a prediction and the name of its record; it raises OutputError for what Label Studio would refuse.

    Making it takes a second: the SDK is imported.
    """
    from label_studio_sdk.label_interface.interface import LabelInterface

    interface = LabelInterface(label_config)

    def check(prediction: Mapping[str, Any], name: str) -> None:
        if errors := interface.validate_prediction(prediction, return_errors=True):  # type: ignore[no-untyped-call]
            raise OutputError(f"The record {name} does not fit the label config: {errors[0]}")

    return check
