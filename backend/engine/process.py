"""The engine's own process: loads the model, sizes the KV cache, then runs the loop until it is told to stop.

One thread reads messages from the parent; the main thread owns the device. When the pipe closes (the parent died) the
process ends at once. A model that cannot be loaded is said by `LoadFailed`, in one line; what only another process can
do, without a part, by `StartAgain`. A loop that fails ends the process at once, too: nobody would answer any more, and
only its end tells the API process so.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, NoReturn, Protocol

from backend.engine.allocator import use_expandable_segments
from backend.engine.mailbox import Mailbox
from backend.engine.messages import FromEngine, LoadFailed, Loading, Ready, StartAgain
from backend.engine.options import EngineOptions, StartAgainWithout
from backend.engine.own_code import is_another
from backend.environment import is_of_libraries, tidy, unusable
from backend.errors import one_line
from backend.logs import configure_logging
from backend.pages.engine_words import Why
from model_loader.errors import ModelError, SetupIncomplete
from model_loader.troubles import trouble

if TYPE_CHECKING:
    from backend.engine.loop import EngineLoop
    from model_loader.choice import Choice
    from model_loader.loader import LoadedModel
    from model_loader.progress import Pace

log = logging.getLogger(__name__)

EXIT_READER = 71
EXIT_LOOP = 72
MAX_PICTURE_THREADS = 4


Send = Callable[[FromEngine], None]


class Loop(Protocol):
    def run(self) -> None: ...


def main(
    connection: Connection,
    options: EngineOptions,
    make_loop: Callable[[EngineOptions, Mailbox, Send], Loop] | None = None,
) -> None:
    """Entry point of the process (`backend.engine.child` starts it).

    `make_loop` takes the place of `load`; tests put a loop there that needs no model.
    """
    configure_logging(options.log_level)
    with contextlib.suppress(RuntimeError, OSError):  # who has closed stderr wants no log
        faulthandler.enable()  # where a library crashes: else the log would have nothing of it
    # on a CPU it warns about an optional package with faster kernels, which our path does not use
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    mailbox = Mailbox()
    threading.Thread(target=_read, args=(connection, mailbox), name="engine-reader", daemon=True).start()

    def send(message: FromEngine) -> None:
        with contextlib.suppress(OSError):  # the reader thread ends the process when the parent is gone
            connection.send(message)

    for tidied in tidy(os.environ, is_of_libraries):  # of a Ray worker, which has an environment of its own
        log.warning("%s", tidied)
    if "segments" not in dict(options.without) and (kept := use_expandable_segments(os.environ)):
        options = replace(options, without=(*options.without, ("segments", kept)))
    try:
        loop = (make_loop or load)(options, mailbox, send)
    except StartAgainWithout as error:
        log.error("%s", error, exc_info=error.__cause__)
        send(StartAgain(error.without, error.why))
        _end(0)
    except Exception as error:
        from model_loader.load_errors import known_error

        named = known_error(error) or error
        is_ours = named is error and isinstance(error, ModelError) and error.__cause__ is None
        log.error("the model could not be loaded: %s", named, exc_info=None if is_ours else error)
        send(LoadFailed(one_line(named), _why(named)))
        return
    code = EXIT_LOOP
    try:
        loop.run()
        code = 0
    except BaseException:
        log.exception("the engine's loop failed")
    _end(code)


def _why(error: Exception) -> Why:
    """For pages, which have words in two languages for a Trouble and for each kind of ModelError."""
    if not isinstance(error, ModelError):
        return Why("engine_said", {"said": one_line(error)})
    if error.trouble is not None:
        return Why(error.trouble.code, error.trouble.values)
    return Why(type(error).__name__, {"said": str(error)})


def _end(code: int) -> NoReturn:
    """At once: threads may be inside torch still, which does not survive the interpreter's own way out."""
    logging.shutdown()
    os._exit(code)


def load(options: EngineOptions, mailbox: Mailbox, send: Send) -> EngineLoop:
    """Load the model, tune its kernels, size the KV cache, and say Ready. Raises whatever is wrong with the model."""
    if is_another(options.code):
        raise SetupIncomplete(trouble("load_code_changed"))
    if problems := unusable(os.environ):
        raise SetupIncomplete(" ".join(problems))
    from backend.engine.loop import EngineLoop
    from backend.engine.preparation import Preparation
    from backend.engine.scheduler import Scheduler
    from backend.engine.sizing import scheduler_limits, taken_since
    from backend.engine.slowed import slowed_card
    from backend.engine.start import start
    from model_loader.choice import choose_model
    from model_loader.host import num_cpus

    cpus = num_cpus()
    choice = choose_model(
        options.model,
        device=options.device,
        vram_gib=options.vram_gib,
        request=options.request,
        max_slots=options.max_slots,
    )
    log.info("the model is %s: %s", choice.model, choice.reason)
    send(Loading(f"{choice.model}: {choice.reason}", 0.0))
    if choice.card is not None:
        send(Loading("trial", 0.0))  # what ends the process from here on is the card's, or bitsandbytes'
    use_device(choice, options, cpus)
    loaded = _loaded(choice, options, send)
    started = start(loaded, options, lambda stage, fraction: send(Loading(stage, fraction)))
    runner, sizes = started.runner, started.sizes
    encode = runner.encode if choice.card is None else None
    preparation = Preparation(runner.to_patches, encode, min(MAX_PICTURE_THREADS, max(1, cpus - 1)))
    send(
        Ready(
            model_name=loaded.name,
            quantisation=loaded.quantisation,
            device=loaded.device,
            memory_gib=loaded.model.get_memory_footprint() / 2**30,
            load_s=loaded.load_s,
            source=choice.model,
            weights_id=loaded.weights_id,
            max_slots=sizes.max_slots,
            kv_tokens=sizes.kv_tokens,
            slower=started.slower,
            card=choice.card.label if choice.card else "",
            other_cards=choice.card.others if choice.card else (),
            card_named=choice.card is not None and options.device is not None,
        )
    )
    scheduler = Scheduler(scheduler_limits(sizes, options.context_tokens))
    is_taken, slowed = taken_since(loaded.device), slowed_card(loaded.device)
    return EngineLoop(runner, mailbox, send, scheduler, preparation, is_taken=is_taken, slowed=slowed)


def use_device(choice: Choice, options: EngineOptions, cpus: int) -> None:
    """What torch has to know of the card, or the CPU, before anything is there. Raises StartAgainWithout."""
    import torch

    from backend.engine.start import try_allocator
    from model_loader.memory import GIB, budget_bytes

    # it may be preferred on Hopper, and plans anew for each shape of prefill
    torch.backends.cuda.enable_cudnn_sdp(False)
    if choice.card is not None:
        # Triton, streams and memory figures are those of the current device
        torch.cuda.set_device(torch.device(choice.device).index or 0)
        if options.vram_gib:
            total_gib = choice.card.memory_gib
            torch.cuda.set_per_process_memory_fraction(budget_bytes(total_gib, options.vram_gib) / GIB / total_gib)
        try_allocator(choice.device, options)
    elif "OMP_NUM_THREADS" not in os.environ:
        # decode steps are small, and torch's threads wait for each other in a spin: leave cores to the other work
        torch.set_num_threads(max(1, cpus // 2))


def _loaded(choice: Choice, options: EngineOptions, send: Send) -> LoadedModel:
    import torch

    from backend.engine.start import LOAD_SHARE
    from model_loader.loader import load_model
    from model_loader.packing_trial import try_packing
    from model_loader.random_model import random_model
    from model_loader.sources import find_config

    def loading(stage: str, fraction: float, pace: Pace) -> None:
        if stage != "ready":  # the model is; requests are taken later
            why = (Why("engine_download_again", {"said": one_line(pace.because)}),) if pace.because else ()
            send(Loading(stage, LOAD_SHARE * fraction, pace.left_s, pace.bytes_per_s, pace.counts_bytes, why))

    if options.geometry_only:
        send(Loading("random_weights", 0.0))
        if choice.card is not None:  # as `load_model` does: random weights could be packed wrong, too
            try_packing(choice.device, torch.bfloat16)
        return random_model(find_config(choice.model), choice.device, name=f"random weights of {choice.model}")
    return load_model(
        choice.model,
        on_progress=loading,
        device=choice.device,
        card=choice.card,
        vram_gib=options.vram_gib,
        request=options.request,
        max_slots=options.max_slots,
        revision=options.revision,
        save_quantised_to=None if "copy" in dict(options.without) else options.quantised_dir,
        download_limit_s=options.patience_s,
    )


def _read(connection: Connection, mailbox: Mailbox) -> None:
    try:
        while True:
            mailbox.put(connection.recv())
    except (EOFError, OSError):
        os._exit(0)  # the parent is gone: nobody is left to answer
    except BaseException:
        log.exception("a message of the API process could not be read")
        os._exit(EXIT_READER)
