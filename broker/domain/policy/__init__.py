"""Rules that allow or refuse. Everything is refused unless a rule allows it."""
