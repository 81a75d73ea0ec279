"""What the inputs begin as: small right ones of every form."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from label_config.parse import parse_label_config
from label_config.ready_made import ready_made, ready_made_names
from label_config.schema import LabelSchema
from tests.backend.bulk.workbooks import workbook
from tests.backend.images.pictures import saved
from tests.label_config.configs import choice, choices, view

_JSON_WORDS = r'"id": "data":{ [ ] { } , : null 1e999 NaN "\ud800" \u0000'
_CONFIG_WORDS = (
    '<View> </View> <Choices/> <Choice/> </Choices> <!-- --> <Style> <![CDATA[ &b; &#0; &#xd800; &amp; alias=" hint=" '
    'toName=" value="$ required="true" perItem="true" visibleWhen="choice-selected" whenTagName="style" '
    'maxUsages="1e9" whenChoiceValue="a,b" pathSeparator="/" min="5" max="1e300" step="1e-300" maxRating="9999999"'
)
_TAGS = (
    b'<Choices name="c" toName="image">', b'<Choice value="a"/>', b'<!DOCTYPE a [<!ENTITY b "c">]>',
    b'<Repeater on="$a">', b'<Number name="n2" toName="image"/>', b'<Taxonomy name="t2" toName="image" apiUrl="http://a/b">',
)  # fmt: skip
JSON_WORDS = tuple(_JSON_WORDS.encode().split())
CONFIG_WORDS = (*_CONFIG_WORDS.encode().split(), *_TAGS)
TABLE_WORDS = (b"sep=;\n", *(bytes([byte]) for byte in b',;\t|"\r\n\0'), b"image", b"\xff\xfe", b"http://a/b.jpg")
PLACES = (b"$image", b"$item.url", b"$images[0]", b"$images.0", b"https://a/$id/$name.jpg", b"$a.b[3].c")
TASK_DATA: tuple[Any, ...] = (
    {"image": "https://example.org/a.jpg"},
    {"item": {"url": "s3://bucket/a.jpg"}, "images": ["/data/upload/1/a.jpg", "b.png"], "id": 7, "name": "x"},
    {"image": "data:image/png;base64,iVBORw0KGgo=", "a": {"b": [1, 2, 3, {"c": "http://[::1]/a"}]}},
)
EXTRA_PARAMS: tuple[Any, ...] = (
    {"language": "en", "caption_min_length": 10, "caption_max_length": 20, "review_threshold": 0.3},
    {"fields": {"caption": {"instruction": "short", "max_chars": 40, "kind": "short"}}, "temperature": 0.1, "top_p": 1},
)

_TREE = choice("x", inner=choice("y") + choice("z", "zz"))


@cache
def configs() -> tuple[bytes, ...]:
    own = view(
        '<Number name="n" toName="image" min="-3" max="7.5" step="0.25"/>',
        '<Rating name="r" toName="image" maxRating="5"/>',
        '<TextArea name="t" toName="image" maxSubmissions="1" rows="3"/>',
        choices("a", "b", "c", attributes='choice="multiple" required="true"'),
        f'<Taxonomy name="tree" toName="image" maxUsages="2">{_TREE}</Taxonomy>',
    )
    return (own.encode(), *(ready_made(name).encode() for name in ready_made_names()))


@cache
def schema() -> LabelSchema:
    return parse_label_config(configs()[0])


@cache
def bodies() -> tuple[bytes, ...]:
    config = configs()[0].decode()
    tasks = [{"id": number, "data": {"image": f"http://a/{number}.jpg"}} for number in range(3)]
    predict = {"tasks": tasks, "project": "1.17", "label_config": config, "params": {"context": None, "login": "x"}}
    setup = {"project": "1.17", "schema": config, "hostname": "http://a:8080", "extra_params": '{"language": "en"}'}
    webhook = {"action": "ANNOTATION_CREATED", "project": {"id": 1}, "task": {"id": 3}, "annotation": {"result": []}}
    trial = {"label_config": config, "options": {"language": "en"}, "tasks": [{"id": 1, "image": "http://a/1.jpg"}]}
    return tuple(json.dumps(body).encode() for body in (predict, setup, webhook, trial))


@cache
def lists() -> dict[str, tuple[bytes, ...]]:
    """By suffix."""
    rows = [["name", "image"], ["shoe", "a.jpg"], ["鞋", "http://example.org/b.png"], ["", "子/c.webp"]]
    text = "\n".join(",".join(row) for row in rows)
    with tempfile.TemporaryDirectory() as folder:
        book = workbook(
            Path(folder) / "a.xlsx", {"one": rows, "two": [["image"], ["d.jpg"]]}, hidden=["two"]
        ).read_bytes()
    separated = ("sep=;\n" + text).replace(",", ";").encode()
    tasks = [{"id": 1, "data": {"image": "a.jpg"}}, {"id": 2, "data": {"image": "http://a/b"}, "annotations": []}]
    return {
        ".csv": (
            text.encode(),
            text.encode("utf-16"),
            text.encode("gb18030"),
            separated,
        ),
        ".tsv": (text.replace(",", "\t").encode(),),
        ".txt": (b"a.jpg\nhttp://example.org/b.png\n", text.replace(",", "\t").encode("utf-16")),
        ".jsonl": ("\n".join(map(json.dumps, ["a.jpg", {"image": "b.jpg", "id": 3}])).encode(),),
        ".json": (json.dumps(tasks).encode(), json.dumps([{"image": "a.jpg", "id": 4}]).encode()),
        ".xlsx": (book,),
    }


@cache
def pictures() -> tuple[bytes, ...]:
    """Small ones of every format that is read, with profiles, turns, palettes, planes and frames."""
    picture = Image.effect_mandelbrot((48, 32), (-2, -1, 1, 1), 20).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    forms: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (picture, "JPEG", {"exif": exif}), (picture, "JPEG", {"progressive": True}),
        (picture.convert("CMYK"), "JPEG", {}),
        (picture, "PNG", {}), (picture.convert("P"), "PNG", {"transparency": 0}), (picture.convert("I;16"), "PNG", {}),
        (picture.convert("RGBA"), "WEBP", {"lossless": True}), (picture, "WEBP", {"exif": exif}),
        (picture.convert("P"), "GIF", {"save_all": True, "append_images": [picture.convert("P")]}),
        (picture, "BMP", {}), (picture.convert("1"), "BMP", {}), (picture.convert("P"), "BMP", {}),
        (picture, "TIFF", {"compression": "tiff_lzw", "exif": exif}), (picture.convert("CMYK"), "TIFF", {}),
        (picture, "TIFF", {"compression": "jpeg"}), (picture.convert("1"), "TIFF", {"compression": "group4"}),
        (picture, "AVIF", {}), (picture, "HEIF", {}), (picture, "MPO", {"save_all": True, "append_images": [picture]}),
    ]  # fmt: skip
    return tuple(saved(image, name, **options) for image, name, options in forms)


@cache
def annotated() -> tuple[list[Any], ...]:
    def region(name: str, kind: str, value: Any) -> dict[str, Any]:
        return {"id": "a1", "from_name": name, "to_name": "image", "type": kind, "value": {kind: value}, "score": 0.5}

    return (
        [
            region("n", "number", 1.25), region("r", "rating", 4), region("style", "choices", ["a", "c"]),
            {**region("t", "textarea", None), "value": {"text": ["one", "two"]}},
            region("tree", "taxonomy", [["x", "zz"], ["x", "y"]]),
        ],
        [region("style", "choices", "b"), region("r", "rating", 1)],
    )  # fmt: skip


@cache
def answers() -> tuple[bytes, ...]:
    full = {"n": 1.25, "r": 4, "style": ["a"], "tree": [["x", "y"]], "t": "a caption"}
    return (json.dumps(full).encode(), json.dumps({"r": 5, "t": "说明 😀"}, ensure_ascii=False).encode())
