"""What `docs/generate.py` writes: facts read from the code, as pages of the site and as manual pages."""
