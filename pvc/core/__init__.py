"""The core: configuration, coordination, model, plugins, services, node operations.

Owns every record that more than one part reads. Knows no libvirt, no Ceph, no Typer; imports no plugin.
"""
