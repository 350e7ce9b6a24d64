"""What clients ask of the storage: each request is one transaction on the tree."""
