"""What chapter 2 measures, a module a table; arithmetic on recorded states, no pass is changed."""
