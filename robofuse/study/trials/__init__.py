"""The kinds of trials that come along; `robofuse.study.registry.TRIALS` has their names."""
