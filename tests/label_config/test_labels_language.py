"""In which language captions go with the labels."""

from __future__ import annotations

import pytest

from label_config.labels_language import labels_language
from label_config.parse import parse_label_config
from label_config.ready_made import ready_made, ready_made_names


@pytest.mark.parametrize("name", ready_made_names())
def test_the_ready_made_configs_are_in_the_language_of_their_name(name: str) -> None:
    assert labels_language(parse_label_config(ready_made(name))) == name[-2:]


@pytest.mark.parametrize(
    ("controls", "language"),
    [
        ('<TextArea name="caption" toName="i"/>', None),
        ('<Rating name="评分" toName="i"/>', None),
        ('<Choices name="c" toName="i"><Choice value="Red"/><Choice value="12"/></Choices>', "en"),
        ('<Choices name="c" toName="i"><Choice value="12"/><Choice value="34"/></Choices>', None),
        ('<Choices name="c" toName="i"><Choice value="Nike"/><Choice value="其他"/></Choices>', "zh"),
        ('<Choices name="c" toName="i"><Choice value="Qipao" hint="旗袍"/></Choices>', "zh"),
        (
            '<Taxonomy name="t" toName="i"><Choice value="A"><Choice value="B"><Choice value="鞋"/></Choice></Choice>'
            "</Taxonomy>",
            "zh",
        ),
        ('<Choices name="c" toName="i"><Choice value="Été"/></Choices>', "en"),
    ],
    ids=["names only", "a Chinese name", "English", "numbers", "one Chinese label", "a hint", "deep", "French"],
)
def test_any_chinese_label_means_chinese(controls: str, language: str | None) -> None:
    config = f'<View><Image name="i" value="$image"/>{controls}</View>'
    assert labels_language(parse_label_config(config)) == language
