"""Functions on trees: start, bind, chain, observe."""
