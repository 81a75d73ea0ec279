"""Fetch and decode the picture of a task, from wherever it is, safely. See `ImageFetcher`."""

from backend.images.decode import FetchedImage
from backend.images.fetch import ImageFetcher
from backend.images.policy import ImagePolicy, Limits

__all__ = ["FetchedImage", "ImageFetcher", "ImagePolicy", "Limits"]
