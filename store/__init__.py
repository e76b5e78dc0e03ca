"""The content-addressed store: what we keep, and how nothing gets lost."""
