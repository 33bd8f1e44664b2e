"""A reference becomes an immutable, content-addressed directory or file."""
