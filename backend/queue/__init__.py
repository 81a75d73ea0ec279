"""Tasks that last: accepted, worked on, answered, whatever dies meanwhile. Knows no HTTP."""
