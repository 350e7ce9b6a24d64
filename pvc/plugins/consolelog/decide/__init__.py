"""Pure decisions of the consolelog plugin: values in, the next step as a value out. No doors are imported here."""
