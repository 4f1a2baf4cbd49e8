"""A model as a C library for another machine: object, header, loader. `export` writes the folder; `targets` is the table."""
