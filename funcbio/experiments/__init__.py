"""Experiments: data, networks, training loops, figures and tables behind ``python -m funcbio``.

They need ``pip install '.[experiments]'`` in funcbio's source; the library itself imports none of them.
"""
