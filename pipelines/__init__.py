"""How it is run: inventory, plan, the Ray Data graph, commits, snapshots, the command line."""
