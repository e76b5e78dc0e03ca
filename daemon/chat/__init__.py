"""From chat messages to prompts and from text back to messages: pure and incremental."""
