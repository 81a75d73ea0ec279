"""Label config text -> element tree, with every limit that untrusted XML needs.

Covered: size, nesting depth, attributes of a tag, document type declarations (and with them entities: billion laughs,
quadratic blow-up, external files and URLs), NUL, lone surrogates, wrong or foreign encodings. Opens no file and no
socket.
Not covered: what the tags mean; that is `label_config.parse`. Raises UnsupportedConfig and nothing else.
"""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from label_config.errors import UnsupportedConfig

MAX_CONFIG_BYTES = 1 << 20  # 10,000 labels with aliases and hints are about 700 KB
MAX_DEPTH = 64
MAX_ATTRIBUTES = 100  # of one tag; what asks for one goes through all of them

_DECLARED_ENCODING = re.compile(rb"""^<\?xml[^>]{0,200}?encoding\s*=\s*["']([^"'>]{0,40})["']""")
_UTF8_NAMES = {b"utf-8", b"utf8", b"us-ascii", b"ascii"}


def read_tree(xml: str | bytes) -> Element:
    """Return the root element of `xml`. A string may carry a declaration, as long as it declares UTF-8."""
    source = _source_bytes(xml)
    parser = DefusedXMLParser(target=_LimitedTreeBuilder(), encoding="utf-8", forbid_dtd=True)
    try:
        parser.feed(source)
        root: Element = parser.close()
    except DefusedXmlException:
        raise UnsupportedConfig(
            "The label config has a document type declaration (<!DOCTYPE ...>), which is not allowed; remove it."
        ) from None
    except ParseError as error:
        raise UnsupportedConfig(f"The label config is not well-formed XML: {error}.") from None
    return root


def _source_bytes(xml: str | bytes) -> bytes:
    if not isinstance(xml, str | bytes):
        raise UnsupportedConfig(f"The label config must be XML text, not {type(xml).__name__}.")
    try:
        # Encoding first: a string with an encoding declaration cannot be parsed as a string.
        source = xml.encode() if isinstance(xml, str) else xml
        source.decode()
    except UnicodeEncodeError:
        raise UnsupportedConfig("The label config holds a lone surrogate, which no UTF-8 text can.") from None
    except UnicodeDecodeError as error:
        raise UnsupportedConfig(f"The label config is not UTF-8 (byte {error.start}); save it as UTF-8.") from None
    if len(source) > MAX_CONFIG_BYTES:
        raise UnsupportedConfig(
            f"The label config is {len(source):,} bytes; the limit is {MAX_CONFIG_BYTES:,} bytes (1 MiB)."
        )
    if b"\0" in source:
        raise UnsupportedConfig("The label config holds a NUL character; remove it.")
    source = source.removeprefix(b"\xef\xbb\xbf")
    if not source.strip():
        raise UnsupportedConfig("The label config is empty.")
    declared = _DECLARED_ENCODING.match(source)
    if declared and declared[1].lower() not in _UTF8_NAMES:
        name = declared[1].decode()
        raise UnsupportedConfig(f'The label config declares encoding="{name}"; save it as UTF-8 and declare that.')
    return source


class _LimitedTreeBuilder(TreeBuilder):
    """Stops at the first tag that is nested too deep or has too many attributes, before its tree exists."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def start(self, tag: str, attrs: dict[str, str]) -> Element:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UnsupportedConfig(f"The label config nests tags deeper than {MAX_DEPTH} levels; flatten it.")
        if len(attrs) > MAX_ATTRIBUTES:
            raise UnsupportedConfig(f"<{tag[:40]}> has {len(attrs):,} attributes; the limit is {MAX_ATTRIBUTES}.")
        return super().start(tag, attrs)

    def end(self, tag: str) -> Element:
        self._depth -= 1
        return super().end(tag)
