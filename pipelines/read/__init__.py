"""What training jobs and exports read."""
