"""A small OpenStack for the tests of its engine."""
