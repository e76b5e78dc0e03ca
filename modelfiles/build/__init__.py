"""The steps that turn a specification into blobs."""
