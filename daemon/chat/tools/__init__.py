"""Tool calls in a model's output: found while it streams, read from whatever format it emits."""
