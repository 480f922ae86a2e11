"""What is done: one module a stage, each a pure function of an Arrow table. No Ray here."""
