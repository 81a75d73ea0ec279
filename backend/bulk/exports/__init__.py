"""Other forms of a bulk run's output, made from OUT.jsonl when the run has ended: right after any number of resumes.

Each is written beside and then put in place, so that a reader never sees half of one. Memory does not grow with the
number of records. They raise OSError (the disk), and UsageError for records of another label config.
"""
