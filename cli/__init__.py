"""The thin command line: parses, makes one call to the daemon, prints."""
