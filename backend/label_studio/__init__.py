"""Label Studio's side of the line: its API, its errors, its tokens. The only room that imports the SDK."""
