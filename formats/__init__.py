"""Model files: a module a kind, and pictures on their way through a model."""
