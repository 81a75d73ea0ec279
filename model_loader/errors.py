"""What can go wrong between a model's name and a ready model. Each text is one line that says what to do.

ModelError
├── ModelNotFound        no such folder, hub model or revision, or not in the cache while offline
├── DownloadFailed       the hub could not be reached or the disk is too small; starting again resumes the download
├── ModelFilesInvalid    a shard is missing or cut short, a tensor is missing, left over or has another shape
│   └── UnsafeModelFiles     pickled weights, or a checkpoint that wants to run its own code
├── UnsupportedModel     not a Qwen3-VL, or sizes that cannot be packed in 4 bits
├── ModelTooLarge        it does not fit the card, or what other programs leave of it
├── CardUnusable         there is a card that cannot be used, or one that failed: driver, compute capability, a fault
├── MachineUnfit         this machine's own memory or disk does not suffice, fails, or may not be used
├── SetupIncomplete      a library or tool that loading needs is missing or another version
└── LoadingFailed        anything else; the log has the whole error
"""

from __future__ import annotations

from model_loader.troubles import Trouble


class ModelError(Exception):
    """Base of all; the text is safe to show and never holds a credential. It is given as text, or as a Trouble, which
    has words in other languages, too, or as both, where the text says more."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""

    @property
    def trouble(self) -> Trouble | None:
        return next((part for part in self.args if isinstance(part, Trouble)), None)


class ModelNotFound(ModelError):
    pass


class DownloadFailed(ModelError):
    """`may_pass`: by itself, as a lost connection does. `lacks_room`: the disk has too little of it."""

    def __init__(self, *args: object, may_pass: bool = False, lacks_room: bool = False) -> None:
        super().__init__(*args)
        self.may_pass, self.lacks_room = may_pass, lacks_room


class ModelFilesInvalid(ModelError):
    pass


class UnsafeModelFiles(ModelFilesInvalid):
    pass


class UnsupportedModel(ModelError):
    pass


class ModelTooLarge(ModelError):
    pass


class CardUnusable(ModelError):
    pass


class MachineUnfit(ModelError):
    pass


class SetupIncomplete(ModelError):
    pass


class LoadingFailed(ModelError):
    pass


def shorten(names: list[str], *, limit: int = 5) -> str:
    """Join names for a message: the first `limit`, then how many more."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
