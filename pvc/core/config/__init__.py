"""Configuration: YAML files, the cerberus schemas of core and enabled plugins, and errors that say where and what.

`document.py` reads YAML and keeps positions, `layers.py` lays pvc.yaml and conf.d over each other; `schema.py` is
core's own schema and `rules.py` what schemas may use; `validation.py` turns both into settings or a list of problems
(`errortree.py` and `problems.py` word them); `settings.py` is what the rest of the system sees, `secret.py` what a
secret is there, `overrides.py` what one VM may have of its own; `explain.py` shows what is in force and why;
`reference.py` lists every key, `markdown.py` and `editorschema.py` write that for people and for editors. No code
here.
"""
