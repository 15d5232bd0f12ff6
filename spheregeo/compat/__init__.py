"""Functions of other libraries under their own names and arguments, for code that was written for them."""
