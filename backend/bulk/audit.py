"""Which pictures of a bulk run are withheld for the blind audit: their records hold the answer, what is made of the
records for people to look at does not.

`Collector` asks, in the one process that writes, whoever has done the work. Raises UsageError.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from backend.bulk.items import identity_of
from backend.errors import PrelabelError, UsageError
from backend.store import Store
from backend.store.audit import chooses
from backend.store.serving import FILE_NAME
from backend.store.state_file import prepare_data_dir

PROJECT = "bulk"
"""Pictures of bulk runs are chosen by where they are, whatever file their records go to."""

Withholds = Callable[[Mapping[str, Any]], bool]
"""Of a record, whether it is withheld."""


def withholds_nothing(record: Mapping[str, Any]) -> bool:
    return False


def withholder(data_dir: Path, share: float) -> Withholds:
    """Blocking. The key that chooses is the data folder's: raises UsageError where that cannot be used."""
    if not share:
        return withholds_nothing
    try:
        prepare_data_dir(data_dir)
        with Store.beside(data_dir / FILE_NAME, time.time()) as store:
            key = store.audit_key()
    except PrelabelError as error:
        raise UsageError(
            f"--audit-share: which pictures are withheld follows from a key in the data folder, which cannot be used: "
            f"{error}"
        ) from None
    return lambda record: chooses(key, PROJECT, identity_of(record).hex(), share)
