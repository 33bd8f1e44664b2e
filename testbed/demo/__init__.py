"""`make demo`: a control plane, the operator and examples/demo, from nothing to all Ready, with a live table."""
