"""Steps of environments: as quick as can be, of many at once, and the facts beside them."""
