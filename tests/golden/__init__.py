"""Numbers from outside the code under test, each next to the script that made them."""
