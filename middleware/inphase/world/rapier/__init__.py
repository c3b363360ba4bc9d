"""A second world: Rapier steps the model that MuJoCo has read."""
