"""The contract of every public event: models, the JSON Schemas made from them, the administrative list."""
