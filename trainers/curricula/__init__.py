"""One curriculum per file, found by its name in the registry."""
