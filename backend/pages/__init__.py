"""What the status page and the report are made of: templates, style, script and words. Knows no data types."""
