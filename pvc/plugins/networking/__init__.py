"""The networking role: the flag exists, this version does not have the role yet. No code here is ever imported."""
