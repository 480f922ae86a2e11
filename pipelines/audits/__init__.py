"""A second opinion on a dataset by other code than the build's."""
