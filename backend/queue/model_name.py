"""The name of the loaded model, kept for the next start. `remember` raises OSError."""

from __future__ import annotations

from backend.engine.api import EngineStatus
from backend.engine.messages import Ready
from backend.store.state_file import StateFile
from model_loader.sources import AUTO


class ModelNames:
    """The loaded model's name, also while it loads: then it is the one that the same settings loaded last time.

    Label Studio compares the version of /setup with those of stored predictions, so it should not change because
    prelabel was started again.
    """

    def __init__(self, file: StateFile, model: str, revision: str) -> None:
        self._file = file
        self._key = f"{model}@{revision}"
        self._known: Ready | None = None
        document = file.load()
        known = [document.get(key) for key in ("name", "quantisation", "weights_id")]
        if document.get("settings") == self._key and all(isinstance(value, str) for value in known):
            self._known = Ready(str(known[0]), str(known[1]), "", 0.0, 0.0, weights_id=str(known[2]))
        self._is_asked_for = model != AUTO
        self._fallback = Ready(model.rstrip("/").rpartition("/")[2], "loading", "", 0.0, 0.0)

    def of(self, status: EngineStatus) -> Ready:
        return status.ready or self._known or self._fallback

    def known(self, status: EngineStatus) -> Ready | None:
        """As `of`, None before these settings have ever loaded a model."""
        return status.ready or self._known

    def name(self, status: EngineStatus) -> str:
        """Of the model that is loaded or being loaded; "" while nobody knows which one `auto` will take."""
        known = self.known(status)
        if known is not None:
            return known.model_name
        return self._fallback.model_name if self._is_asked_for else ""

    def remember(self, ready: Ready) -> None:
        """Keep the name for the next start. Raises OSError; call it in a thread."""
        content = {"name": ready.model_name, "quantisation": ready.quantisation, "weights_id": ready.weights_id}
        self._known = ready
        self._file.save({"settings": self._key, **content})
