"""Define configuration, Arrow schemas, error and reason codes, units and the dataset's files. Nothing here does I/O."""
