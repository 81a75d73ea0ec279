"""Resolves a hub id with the environment it was started with (huggingface_hub reads it at import). A subprocess.

Prints one JSON object: the folder and the fractions, or the error's class and text.
"""

import json
import sys

from model_loader.errors import ModelError
from model_loader.sources import find_config, resolve


def main(source: str, revision: str | None) -> None:
    fractions: list[float] = []
    try:
        resolved = resolve(source, revision=revision, on_fraction=lambda num_bytes: fractions.append)
    except ModelError as error:
        print(json.dumps({"error": type(error).__name__, "text": str(error)}))
        return
    found = None if revision else find_config(source)["model_type"]  # with no network, from what was downloaded
    print(
        json.dumps(
            {"folder": str(resolved.folder), "commit": resolved.commit, "fractions": fractions, "model_type": found}
        )
    )


main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
