"""Speed and memory of a training step on this machine, beside the peers that are installed."""
