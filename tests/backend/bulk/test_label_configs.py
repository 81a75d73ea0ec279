"""Which label config a run has when nobody names one."""

from __future__ import annotations

import pytest

from backend.bulk.job import IMAGE_KEY
from backend.bulk.label_configs import label_config_called, label_config_for
from backend.errors import UsageError
from label_config.parse import parse_label_config
from label_config.ready_made import ready_made, ready_made_names


@pytest.mark.parametrize("name", ready_made_names())
def test_tasks_of_every_ready_made_config_have_their_picture_under_one_key(name: str) -> None:
    """An export is read before the model, and with it the config, is known."""
    assert label_config_called(name).schema.image_key == IMAGE_KEY


@pytest.mark.parametrize(
    ("model", "config"),
    [
        ("garments", "garments.zh"),
        ("garments-nf4-4b370c9ec471", "garments.zh"),
        ("Qwen3-VL-30B-A3B-Instruct", "ecommerce.zh"),
        ("qwen3-vl-30b-a3b-instruct-nf4-4b370c9ec471", "ecommerce.zh"),
        ("", "ecommerce.zh"),
    ],
    ids=["built-in", "its records", "the large model", "its records too", "no records"],
)
def test_the_config_goes_with_the_model_or_with_the_records_it_made(model: str, config: str) -> None:
    assert label_config_for(model, "zh").schema == parse_label_config(ready_made(config))


def test_a_config_that_is_not_there_is_bad_usage() -> None:
    with pytest.raises(UsageError, match=r"no\.xml cannot be read"):
        label_config_called("no.xml")
