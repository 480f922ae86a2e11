"""Read one format of annotation files per module; `clipmill.stages.annotations.registered` lists them."""
