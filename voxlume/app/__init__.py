"""Command line and server: they parse, call and report; nothing here computes."""
