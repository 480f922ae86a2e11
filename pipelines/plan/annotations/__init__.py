"""Read annotation files and join their rows to the recordings."""
