"""Loads a checkpoint and prints, as JSON, how much anonymous memory that took at its worst. Run as a subprocess.

Anonymous memory (RssAnon of /proc/self/status), sampled every 5 ms by a thread: the checkpoint itself is memory
mapped, and the pages of a mapped file count as resident although the kernel drops them at will.
"""

import json
import re
import sys
import threading
from pathlib import Path

import torch

from model_loader.loader import load_model


def anonymous_bytes() -> int:
    found = re.search(r"^RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def main(folder: str) -> None:
    before = peak = anonymous_bytes()
    done = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, anonymous_bytes())

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        loaded = load_model(folder, device="cpu", dtype=torch.bfloat16)
    finally:
        done.set()
        sampler.join()
    packed = loaded.model.get_memory_footprint()
    after = anonymous_bytes()
    print(json.dumps({"rise": peak - before, "kept": after - before, "packed": packed, "load_s": loaded.load_s}))


main(sys.argv[1])
