"""What a user asks for: experiment files and options become a plan of cells."""
