"""Who somebody is: local accounts."""
