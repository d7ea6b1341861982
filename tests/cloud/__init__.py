"""The pipeline on S3 and on clusters: a real server, a real master and workers, and what fails in them."""
