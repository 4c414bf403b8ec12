"""Who makes the passes: this process, other processes, a cluster."""
