"""Where the control plane keeps what must not be lost: one database, one folder of blobs.

Every change goes through one writer that commits many changes at once and
answers only when they are durable; readers see whole commits.
"""

from edgewright.fleet.store.blobs import Blobs, FolderBlobs
from edgewright.fleet.store.database import Database, Writer

__all__ = ["Blobs", "Database", "FolderBlobs", "Writer"]
