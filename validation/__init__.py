"""The separate job that proves a tier right or says why not: gates, each able to fail, and a report to decide from."""
