"""From sources to shards: inventory, annotations, the plan and its keys."""
