"""Experiments: data, networks, training loops, figures and tables behind ``python -m funcbio``.

They need ``pip install 'funcbio[experiments]'``; the library itself imports none of them.
"""
