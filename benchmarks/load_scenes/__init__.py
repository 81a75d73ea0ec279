"""The scenes of `benchmarks.load`: each puts one kind of load on prelabel and returns a `Part`."""
