"""What chapter 3 measures, a module a kind of table."""
