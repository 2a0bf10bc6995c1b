"""A cell becomes a record."""
