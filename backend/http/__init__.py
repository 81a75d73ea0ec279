"""The HTTP edge of the backend: what arrives is limited, read and validated here, before anything else sees it."""
