"""Where arcmill runs: set-up, the demo on a laptop, the entry for spark-submit."""
