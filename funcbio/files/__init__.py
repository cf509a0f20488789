"""Files and folders that survive damage, kills and other processes: written whole, checked, and owned by one run."""

from funcbio.files._error import FileError

__all__ = ["FileError"]
