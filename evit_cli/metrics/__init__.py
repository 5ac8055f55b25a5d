"""What the paper reports, computed sample by sample."""
