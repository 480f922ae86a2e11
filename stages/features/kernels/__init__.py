"""The arithmetic of the features, which needs numpy and torch alone."""
