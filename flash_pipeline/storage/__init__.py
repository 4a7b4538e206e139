"""How this project keeps files: whole or not at all, in the layout of the data contracts."""
