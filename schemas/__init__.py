"""What things are: configuration, Arrow schemas, reason codes, units and the dataset's files."""
