"""What the engine process is started with. Frozen and picklable; validated by `backend.settings`, not here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from backend.engine.messages import Part
from model_loader.memory import Request


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """`model` is a hub id, a folder, "garments" or "auto". Sizes: GiB for memory, tokens for the rest.

    `geometry_only`: random weights of the model's geometry in its place, to try a start. `without`: the parts that
    failed in an earlier process, and why. `patience_s`: for how long what fails for a cause which may pass is tried
    again: a download, counted from the last file that came, and a card that other programs hold. `code`: of prelabel's
    that starts it (`own_code`), "" for whichever; as the first field it is read right by the code of other versions.
    """

    code: str = ""
    model: str = "auto"
    revision: str | None = None
    device: str | None = None
    vram_gib: float | None = None
    quantised_dir: Path | None = None
    max_slots: int = 128
    max_queue: int = 512
    image_tokens: int = 256
    context_tokens: int = 4096
    log_level: str = "INFO"
    geometry_only: bool = False
    without: tuple[tuple[Part, str], ...] = ()
    patience_s: float = 12 * 3600.0

    @property
    def request(self) -> Request:
        """What the memory plan takes a request for."""
        return Request(image_tokens=self.image_tokens, longest_tokens=self.context_tokens)


class StartAgainWithout(Exception):
    """This engine process cannot go on; the next may, `without` a part."""

    def __init__(self, without: Part, why: str) -> None:
        super().__init__(f"it can only go on without {without}: {why}")
        self.without, self.why = without, why


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Times in seconds, and how often the engine process is started again before it is given up.

    `load_s` is the longest that nothing may move while a model is downloaded and loaded (not the whole: 62 GB from a
    slow mirror take as long as they take), `start_s` the same of what comes before that, `tune_s` of what is done
    after it: saving the copy, and on a card kernels and graphs. `request_s` is how long an engine that is ready may
    answer nobody until who waits is told so (on a CPU, `cpu_request_s`, the first of many takes long). A download that
    is silent for `stall_s` is told to be, and so is a disk that is looked at; packing, loading and saving after
    `tensor_stall_s`, as they tell one tensor after the other, and saving 256 MiB once they are on the disk.
    `hang_s` is the longest silence of an engine that has work: on a card one step with a long prefill before it stays
    well below. On a CPU (`cpu_hang_s`) a prefill of an 8B is 65 TFLOP, which takes a small machine minutes.
    Restarts are counted anew after `stable_s` of service; `max_faults` faults and hangs within `faults_s` are too many,
    whatever stands between.
    """

    start_s: float = 600.0
    load_s: float = 4 * 3600.0
    tune_s: float = 1800.0
    request_s: float = 600.0
    cpu_request_s: float = 6000.0
    close_s: float = 10.0
    stall_s: float = 15.0
    tensor_stall_s: float = 60.0
    hang_s: float = 180.0
    cpu_hang_s: float = 1800.0
    stable_s: float = 600.0
    faults_s: float = 2 * 3600.0
    max_faults: int = 3
    max_restarts: int = 5
    restart_backoff_s: float = 1.0
    max_attempts: int = 2
