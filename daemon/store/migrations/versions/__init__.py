"""One module per version of the schema, each with its way back."""
