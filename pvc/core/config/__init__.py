"""Configuration: a YAML file, the cerberus schemas of core and enabled plugins, and errors that say where and what.

`document.py` reads YAML and keeps positions; `schema.py` is core's own schema; `validation.py` turns both into settings
or a list of problems; `settings.py` is what the rest of the system sees. No code in this file.
"""
