"""Read annotation files: bytes become rows. Where the files are, and which recordings rows belong to, is for `clipmill.pipelines.plan`."""
