"""Public fakes, one per outside system, and a simulated cluster: for our own tests and those of plugin authors."""
