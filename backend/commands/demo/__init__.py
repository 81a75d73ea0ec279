"""`prelabel demo`: a Label Studio and a backend on this machine, and what was pre-filled."""
