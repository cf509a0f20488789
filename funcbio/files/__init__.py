"""Files and folders that others may damage, share or kill us at: whole ones, checked ones, and who owns them."""

from funcbio.files._error import FileError

__all__ = ["FileError"]
