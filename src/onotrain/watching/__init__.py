"""A run as it goes on, read from its directory alone, and shown in a terminal or to a browser."""
