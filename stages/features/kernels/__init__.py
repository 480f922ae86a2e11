"""Do the arithmetic of features with numpy and torch only."""
