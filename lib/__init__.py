"""What the survey, the lenses and the mosaics are: arrays and Arrow, with Spark and S3 at the edges only."""

__version__ = "0.1.0"
