"""Shared parts of all experiments: settings as options, files and kept results, bars, tables, intervals."""
