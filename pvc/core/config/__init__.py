"""Configuration: a YAML file, the cerberus schemas of core and enabled plugins, and errors that say where and what.

`document.py` reads YAML and keeps positions; `schema.py` is core's own schema and `rules.py` what schemas may use;
`validation.py` turns both into settings or a list of problems (`errortree.py` and `problems.py` word them);
`settings.py` is what the rest of the system sees, `explain.py` shows it, `reference.py` lists every key. No code here.
"""
