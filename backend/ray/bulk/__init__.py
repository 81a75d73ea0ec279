"""A bulk run on the engines of a Ray cluster."""
