"""Measures of clips. `clipmill.stages.clips.measure` applies them."""
