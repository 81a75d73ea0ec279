"""What tells people how it is going: one view of the backend, as a page, as JSON and for the command line.

`make_view` gathers it, `view` is its form, `page` shows it in Chinese or English; `api.status_pages` serves both.
"""
