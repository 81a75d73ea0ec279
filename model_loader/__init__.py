"""How a Qwen3-VL fits on one card, the 30B mixture-of-experts on 24 GB: load it in 4 bits through transformers
(`loader.load_model`), and plan its memory first (`memory.plan_memory`).

Importing this package is cheap: it imports no torch, and neither does what finds, checks and plans.
"""

import logging

# On CPUs with AVX512-BF16 bitsandbytes warns at import that an optional kernel is absent. The quantizer turns that path
# off.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
