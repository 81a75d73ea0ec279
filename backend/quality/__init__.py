"""How good answers are: what people corrected, counted, and how sure every figure is.

`people` reads one task's annotations, `compare` sets one answer beside the right one, `measures` counts, `intervals`
says how sure a share is, `threshold` from which score on a task may pass unseen; none of them knows a file or raises.
`reading` brings people's work from Label Studio into the store, `project` makes a project's figures of it, `watch` does
both in the background of a server.
"""
