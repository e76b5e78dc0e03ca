"""Bringing blobs into the store from elsewhere."""
