"""Picture files, and the records that they are trained from."""
