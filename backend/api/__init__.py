"""The HTTP edge: what comes in and goes out, and the plug-in for label-studio-ml's own servers."""
