"""The parts of the page, a module each; each gives a `Section`, or None where there is nothing to say."""
