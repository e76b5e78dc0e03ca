"""One module a dialect: what it offers as `DIALECT` is spoken. Nothing else lists them."""
