"""What is labelled: Label Studio label configs, and everything that follows from one.

XML -> LabelSchema -> instruction and grammar for the model -> Answer -> Label Studio regions and review findings.
Imports no torch, opens no connection, reads no environment variable.
"""
