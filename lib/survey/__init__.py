"""Survey files: bricks, catalogues, masks and the embedded synthetic survey."""
