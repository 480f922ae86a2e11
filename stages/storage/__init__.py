"""Access to local disks and S3 stores. A written file or object appears complete or not at all."""
