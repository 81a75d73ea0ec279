"""What Pillow and the libraries below it say about a picture: kept with that picture instead of printed to stderr.

Python's warnings and Pillow's log come through hooks that this module sets when it is imported; libtiff prints by
itself, hundreds of lines a picture, so its handlers are replaced (where Pillow brings a libtiff that can be found:
otherwise it goes on printing). What is said outside of `collected` goes where it always went. Nothing here raises.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import PIL

MAX_REMARKS = 3
MAX_CHARS = 200


class Said:
    """About one picture. `is_damaged`: a library said so of pixels that it went on with."""

    def __init__(self) -> None:
        self.is_damaged = False
        self._texts: list[str] = []
        self._num_more = 0

    def add(self, text: str) -> None:
        text = " ".join(text.split())[:MAX_CHARS]
        if text in self._texts:
            return
        if len(self._texts) < MAX_REMARKS:
            self._texts.append(text)
        else:
            self._num_more += 1

    @property
    def line(self) -> str:
        """All of it, "" if nothing was said."""
        return "; ".join(self._texts) + (f"; and {self._num_more} more" if self._num_more else "")


class _Current(threading.local):
    said: Said | None = None


_current = _Current()


@contextlib.contextmanager
def collected() -> Iterator[Said]:
    """What is said in this thread while the block runs."""
    _current.said = said = Said()
    try:
        yield said
    finally:
        _current.said = None


def remark(text: str) -> None:
    """Say something about the picture that is being decoded."""
    if _current.said is not None:
        _current.said.add(text)


class _LogHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        remark(record.getMessage())


def _keep_warnings() -> None:
    told = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if _current.said is None:
            told(message, category, filename, lineno, file, line)
        else:
            remark(str(message))

    warnings.showwarning = show
    warnings.filterwarnings("always", module=r"PIL\.")  # by default Python tells a text once a process


def _keep_log() -> None:
    log = logging.getLogger("PIL")
    handler = _LogHandler(logging.WARNING)
    log.addHandler(handler)
    log.propagate = False


_TiffHandler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
_libc = ctypes.CDLL(None)


def _tiff_text(module: bytes | None, form: bytes, values: int) -> str:
    """`values` is C's va_list: a pointer on the machines that prelabel runs on."""
    buffer = ctypes.create_string_buffer(MAX_CHARS)
    _libc.vsnprintf(buffer, ctypes.c_size_t(MAX_CHARS), ctypes.c_char_p(form), ctypes.c_void_p(values))
    return f"{(module or b'libtiff').decode(errors='replace')}: {buffer.value.decode(errors='replace')}"


def _tiff_warning(module: bytes | None, form: bytes, values: int) -> None:
    remark(_tiff_text(module, form, values))


def _tiff_error(module: bytes | None, form: bytes, values: int) -> None:
    remark(_tiff_text(module, form, values))
    if _current.said is not None:
        _current.said.is_damaged = True


def _keep_libtiff() -> None:
    for path in sorted(Path(PIL.__file__).parents[1].glob("pillow.libs/libtiff*")):
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(str(path))
            library.TIFFSetWarningHandler(_tiff_handlers[0])
            library.TIFFSetErrorHandler(_tiff_handlers[1])


_tiff_handlers = (_TiffHandler(_tiff_warning), _TiffHandler(_tiff_error))  # as long as libtiff may call them
_keep_warnings()
_keep_log()
_keep_libtiff()
