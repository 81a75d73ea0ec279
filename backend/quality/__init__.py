"""How good answers are: what people corrected, counted, and how sure every figure is. Knows no HTTP and no files.

`compare` sets one answer beside the right one, `measures` counts, `intervals` says how sure a share is, `threshold`
from which score on a task may pass unseen. Nothing raises.
"""
