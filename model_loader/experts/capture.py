"""Recording a CUDA graph, and what a recording that fails leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class CaptureFailed(Exception):
    """Something could not be recorded. This process's allocator may be left as if the recording went on: it then
    refuses to free anything, so the first shortage of memory would be the last. Only a new process is sound."""


def captured(step: Callable[[], Any], **options: Any) -> torch.cuda.CUDAGraph:
    """Return a graph of `step`, which has run before: building kernels cannot be recorded.

    `options`: those of torch.cuda.graph. Raises CaptureFailed, or torch.OutOfMemoryError from within the step: the
    recording itself then ended in order.
    """
    stream = torch.cuda.current_stream()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, **options):
            step()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise CaptureFailed(str(error) or type(error).__name__) from error
    finally:
        torch.cuda.set_stream(stream)  # one that fails at its end leaves its own stream in place
    return graph
