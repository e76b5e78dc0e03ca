"""What a model is made from, and how it is made."""
