"""The golden cases: small inputs with the rows that SPEC gives for them."""
