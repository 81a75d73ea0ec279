"""What the API process and the engine process say to each other, one frozen dataclass a message.

To the engine: Submit, Cancel, Shutdown. From it: Loading, Ready, LoadFailed, StartAgain, Running, Stats, Finished,
Failed.
Every Submit is answered by exactly one Finished or Failed with its `request_id` (Failed also after a Cancel).
Only builtin types and `label_config` values cross the border; no tensor does. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from backend.pages.engine_words import Why
from label_config.schema import LabelSchema

FinishReason = Literal["stop", "length"]
FailureKind = Literal["cancelled", "out_of_memory", "too_long", "bad_grammar", "bad_picture", "internal"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How text fields are sampled; labels always take the most probable token. Defaults of the seed article."""

    temperature: float = 0.4
    top_p: float = 0.9
    max_new_tokens: int = 512
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture: `rgb` is height*width*3 bytes, row by row."""

    width_px: int
    height_px: int
    rgb: bytes


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One picture and what is asked about it.

    `interactive`: a person is waiting, so it goes before bulk work. `group`: its project; of either kind, groups take
    turns.
    """

    schema: LabelSchema
    instruction: str
    picture: Picture
    sampling: Sampling = Sampling()
    text_max_chars: int = 400
    interactive: bool = False
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit(GenerateRequest):
    """A request on its way to the engine.

    `alone`: it was aboard when an engine died, so it runs without neighbours that it could take along again.
    """

    request_id: int
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Cancel:
    request_id: int


@dataclass(frozen=True, slots=True)
class Shutdown:
    pass


ToEngine = Submit | Cancel | Shutdown


@dataclass(frozen=True, slots=True)
class Loading:
    """Progress of loading: `fraction` is 0..1 within the whole load, `stage` a code that the pages have words for.

    `left_s`: until the stage is over, None while nobody can tell. `bytes_per_s`: 0 where the stage is not about bytes.
    `counts_bytes`: it is, and so the next message comes with the next bytes. `why`: what the stage waits for to pass.
    """

    stage: str
    fraction: float
    left_s: float | None = None
    bytes_per_s: float = 0.0
    counts_bytes: bool = False
    why: tuple[Why, ...] = ()


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is loaded. `model_name`, `quantisation` and `weights_id` are parts of the model version.

    At most `max_slots` requests run at once, in a KV cache of `kv_tokens` positions.
    `source` is what `auto` was resolved to: a restarted engine loads that again, whatever the card looks like then.
    `slower` is what makes it slower than it should be, and why: the code of a check, and what the card said.
    `card` names the card that it is on, where there is one; `other_cards` says of each of the others why that was taken
    instead, where nobody named it; `card_named`: somebody did.
    """

    model_name: str
    quantisation: str
    device: str
    memory_gib: float
    load_s: float
    source: str = ""
    weights_id: str = ""
    max_slots: int = 0
    kv_tokens: int = 0
    slower: tuple[tuple[str, str], ...] = ()
    card: str = ""
    other_cards: tuple[str, ...] = ()
    card_named: bool = False

    @property
    def identity(self) -> str:
        """What of it is part of the model version: answers of engines that differ in it must not stand as one's."""
        return f"{self.model_name} ({self.quantisation}, {self.weights_id[:12]})"


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """The model cannot be loaded; `message` is one clear line, `why` the same for pages. The engine process ends after
    it."""

    message: str
    why: Why


Part = Literal["segments", "copy", "kernels", "graphs"]
"""What an engine can do without, slower: expandable segments of the card's memory, saving a 4-bit copy, our Triton
kernels, CUDA graphs."""

PART_AT_WORK: dict[str, Part] = {"save": "copy", "kernels": "kernels", "memory": "kernels", "graphs": "graphs"}
"""By the stage of loading: what is to blame where the process ends or hangs in it without a word, as a compiler's or a
driver's crash has it."""


MAY_TAKE_HOURS = frozenset(
    {"resolve", "download", "download_again", "check", "quantise", "load", "load_copy", "random_weights"}
)
"""Stages of loading that wait for another machine, or a slow disk. All others are the libraries' and the card's."""


WAITS_FOR_OTHERS = frozenset({"card_again", "download_again"})
"""Stages in which nothing is done until what `EngineStatus.why` says has passed."""


LOOKS_AT_DISKS = "folders"
"""The stage of loading before all that, and before the card is tried."""


BY_TENSORS = frozenset({"quantise", "load", "load_copy", "save"})
"""Stages of loading that tell each tensor once it is through: one of a 30B has 0.8 GB, an embedding 1.2."""


EXIT_DEVICE = 70
"""Exit code of an engine process whose device has failed while it worked."""
EXIT_LIBRARY = 1
"""Of one that a library has ended: bitsandbytes does at the first error of the card that it sees, whoever made it, and
nothing of ours does. Its reason stands in the log, and no exception tells it."""


@dataclass(frozen=True, slots=True)
class StartAgain:
    """This process cannot go on, and the next one is to do `without` a part; `why` is one line. It ends after it.

    What a card does in the middle of a fault, or torch's memory after a graph that failed, can only be left behind.
    """

    without: Part
    why: str


@dataclass(frozen=True, slots=True)
class Running:
    """These requests are worked on from now on; if the engine dies, one of them may be the cause."""

    request_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stats:
    """What the engine has done since it was loaded. Sent about once a second while it works, so silence is a hang.

    `num_steps` counts decode steps, `num_mixed` the prefills that were decode steps, too, `num_put_back` how often a
    bulk request lost its blocks of the KV cache to older ones (it goes on later); `num_kv_tokens` positions of the KV
    cache are in use now. A prefill may compute `prefill_tokens` now, fewer than `most_prefill_tokens` for a while after
    memory has fallen short. `prefill_s` and `decode_s` are seconds of the device's thread. `memory_gib`: the device's
    peak, 0 on a CPU. `slower`: what slows the card's clock now, as `Ready.slower`.
    """

    num_waiting: int = 0
    num_running: int = 0
    num_finished: int = 0
    num_prefills: int = 0
    num_steps: int = 0
    num_mixed: int = 0
    num_put_back: int = 0
    num_kv_tokens: int = 0
    prefill_tokens: int = 0
    most_prefill_tokens: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    memory_gib: float = 0.0
    slower: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The generated answer as token pieces.

    `pieces[i]` are the UTF-8 bytes of token i (a token may end inside a character); `probabilities[i]` its
    probability renormalised over what the grammar allowed, 1.0 where the grammar left no choice.
    `image_scale`: how many pixels the model saw of each pixel of the picture, along its longer side.
    """

    request_id: int
    pieces: tuple[bytes, ...]
    probabilities: tuple[float, ...]
    finish_reason: FinishReason
    num_prompt_tokens: int
    num_image_tokens: int
    image_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Failed:
    request_id: int
    kind: FailureKind
    message: str


FromEngine = Loading | Ready | LoadFailed | StartAgain | Running | Stats | Finished | Failed
