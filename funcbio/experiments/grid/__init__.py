"""The paper's grid: weight splitting, rejuvenation and fuzzy rates, alone and together; ``python -m funcbio grid``."""
