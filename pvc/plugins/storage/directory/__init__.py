"""Pools that are a directory which all nodes share, NFS for example: each image is a file, qcow2 or raw."""
