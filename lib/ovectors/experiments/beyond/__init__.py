"""Beyond the paper's tasks: stages and content independence for any other relation."""
