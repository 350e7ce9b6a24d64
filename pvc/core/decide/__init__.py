"""Pure decisions of the core: values in, the next step as a value out. No doors are imported here."""
