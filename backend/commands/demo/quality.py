"""The end of the demo: how good its answers are, by a simulated person. True figures of the demo's model.

Fashion-MNIST says which garment each picture shows; the simulated person labels just that, without looking at the
answers, and nothing of it is written into Label Studio. Raises UsageError where the page cannot be written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from backend.bulk.report import local_thumbnail
from backend.bulk.report.pictures import data_address
from backend.commands.demo.report import CATEGORY, FilledTask
from backend.commands.quality import show, write_page
from backend.pages.words import Language
from backend.quality.page import Where
from backend.quality.people import Account, Labelled
from backend.quality.summary import quality_of
from backend.quality.threshold import DELTA, TARGET
from backend.quality.words import Sentences
from label_config.answer import Answer, FieldAnswer
from label_config.schema import LabelSchema, TaxonomyField

SIMULATED = (
    "模拟数据：没有人标注过这些图片。“标注者”按 Fashion-MNIST 的分类给出品类，没有看预标注；模型的数字是真实的。",
    "Simulated: no person labelled these pictures. The “annotator” gives the category that Fashion-MNIST says, without "
    "seeing the answers; the model's figures are true.",
)


def show_quality(
    console: Console,
    schema: LabelSchema,
    tasks: Sequence[FilledTask],
    truth: Mapping[str, str],
    pictures: Path,
    page: Path,
    language: Language = "en",
) -> None:
    """`truth`: the leaf of the true category by file name, of files in `pictures`. Writes `page`, too."""
    account, say = Account(), Sentences(language)
    labelled = _labelled(schema, tasks, truth, account)
    found = quality_of(schema, labelled, account.num, target=TARGET, delta=DELTA)
    note = say(*SIMULATED)
    console.print(f"\n{note}")
    show(found, account, say, console)
    write_page(
        page, found, language, lambda name: Where(data_address(local_thumbnail(str(pictures / name)))), note=note
    )


def _labelled(
    schema: LabelSchema, tasks: Sequence[FilledTask], truth: Mapping[str, str], account: Account
) -> Iterator[Labelled]:
    field = schema.field(CATEGORY)
    assert isinstance(field, TaxonomyField)
    paths = {path[-1].value: tuple(node.value for node in path) for path in field.paths()}
    for task in tasks:
        if task.answer is None:
            account.add("no_answer", task.file)
        elif task.file not in truth:
            account.add("not_labelled", task.file)
        else:
            right = Answer({CATEGORY: FieldAnswer((paths[truth[task.file]],))})
            yield Labelled(task.file, task.answer, right, "garments")
