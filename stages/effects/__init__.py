"""Effects that change copies of clips. `clipmill.stages.clips.augment` applies them."""
