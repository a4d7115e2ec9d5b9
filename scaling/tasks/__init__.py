"""Tasks: a data distribution and a per-example loss, for a whole stack of trials at once."""
