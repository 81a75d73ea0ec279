"""The token embedding, looked up where it is kept: on the device, or in the machine's memory.

A step looks up a row of 2 * hidden size bytes a token, so little crosses the bus; on a small card the matrix itself is
the KV cache of many requests (`MemoryPlan.host_bytes`). Nothing here fails.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def keep_on_host(language_model: Any) -> None:
    """Free the device of the embedding. Not for a model whose head is the same matrix.

    A thread that writes a copy to a disk that hangs may have it still: then the peak that is measured next holds it.
    """
    language_model.embed_tokens.to("cpu")
    torch.cuda.empty_cache()


def embed(language_model: Any, ids: NDArray[np.int64], device: torch.device | str) -> torch.Tensor:
    """The embeddings of `ids` [N], on `device`: [N, H]."""
    table = language_model.embed_tokens
    rows: torch.Tensor = table(torch.from_numpy(ids).to(table.weight.device, non_blocking=True))
    return rows.to(device, non_blocking=True)
