"""The built-in plugins, one folder each. A plugin imports core and itself, never another plugin."""
