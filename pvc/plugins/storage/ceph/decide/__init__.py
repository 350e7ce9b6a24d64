"""Pure decisions about Ceph."""
