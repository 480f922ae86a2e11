"""Files and objects: local disks and S3 stores, with writes that appear whole or not at all."""
