"""New chapters from those that are there: `ovectors fork my-study --from 3`."""
