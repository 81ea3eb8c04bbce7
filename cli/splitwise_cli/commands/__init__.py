"""One module a command: typed functions that raise UserError; `main` registers them."""
