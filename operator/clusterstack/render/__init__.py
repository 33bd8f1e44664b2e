"""A directory and a spec become objects, through a pool of renderer processes."""
