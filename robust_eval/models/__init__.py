"""Where networks come from: architectures, recipes, and a user's own weights."""
