"""What tells people how it is going: one view of the backend, as a page, as JSON and for the command line.

`view` gathers it, `page` shows it in Chinese or English, `routes` serves both.
"""
