"""Bulk annotation: folders and lists of pictures to one JSON line a picture, exactly once each, whatever happens."""
