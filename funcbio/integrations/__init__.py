"""Trainers of other libraries: thin callbacks on ``attach``. Import the module of the library you use."""
