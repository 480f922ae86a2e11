"""The command line: its commands, and the text that they print."""
