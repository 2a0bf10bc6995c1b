"""What a notebook calls: one function that measures a model, and the results that it returns."""
