"""Finished predictions to Label Studio, each exactly once, however often Label Studio or this process goes away."""
