"""The driver contract, subject by subject; `driver_contract` puts them together."""
