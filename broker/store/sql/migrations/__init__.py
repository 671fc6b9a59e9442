"""Steps from one schema to the next. See broker/store/sql/migrate.py."""
