"""What makes a Helm release: values, versions, hooks, the record; pure."""
