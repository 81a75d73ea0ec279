"""Every place where others' bytes enter, tried with inputs that are nearly right. `python -m tests.fuzz`: for long."""
