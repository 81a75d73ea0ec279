"""What the status page and the report are made of: words, markup, style. Knows no data types."""
