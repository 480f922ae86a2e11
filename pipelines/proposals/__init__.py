"""Propose a configuration for a folder of audio: what is there, what it probably means, and what else it could mean."""
