"""HTTP dialects: pure translation around one internal request."""
