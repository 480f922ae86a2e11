"""Change clips while they are loaded: one module per transform."""
