"""Single files from the Hugging Face hub, each fetched when it is needed and kept in the hub's own cache.

Downloads resume; ``HF_HUB_OFFLINE=1`` uses only what is in the cache; ``HF_HOME`` moves it.
"""

from __future__ import annotations

import re
from pathlib import Path

from voxlume.errors import ModelFileError

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""``OWNER/NAME``."""


class NotInRepository(ModelFileError):
    """The repository can be read and has no such file."""


class NotCached(ModelFileError):
    """The hub cannot be reached and the file is not in the local cache."""


class AccessDenied(ModelFileError):
    """The repository is gated, private or unknown to this user."""


def fetch(repository: str, path: str, revision: str | None = None) -> Path:
    """The local copy of one file of a repository.

    Parameters
    ----------
    revision : branch, tag or commit; None is the default branch.

    Raises
    ------
    NotInRepository, NotCached, AccessDenied : see there.
    ModelFileError : an unknown revision, a failed download.
    """
    # Imported here: most commands never need the hub.
    from huggingface_hub import errors as hub
    from huggingface_hub import hf_hub_download

    name = f"{path} of {repository}" + (f" at {revision}" if revision else "")
    try:
        return Path(hf_hub_download(repository, path, revision=revision))
    except hub.GatedRepoError as error:
        raise AccessDenied(
            f"{repository} is gated: accept its terms on huggingface.co/{repository} and log in "
            "(hf auth login), or name another source"
        ) from error
    except hub.RepositoryNotFoundError as error:
        raise AccessDenied(
            f"there is no repository {repository} on the hub, or it is private (hf auth login)"
        ) from error
    except hub.RevisionNotFoundError as error:
        raise ModelFileError(f"{repository} has no revision {revision}") from error
    except hub.LocalEntryNotFoundError as error:
        raise NotCached(
            f"{name} is not in the local cache and the hub cannot be reached; go online once "
            "(without HF_HUB_OFFLINE), or give the path of a downloaded model folder"
        ) from error
    except hub.EntryNotFoundError as error:
        raise NotInRepository(f"{repository} has no file {path}") from error
    except hub.HFValidationError as error:
        raise ModelFileError(f"{repository!r} is neither a folder nor a hub id OWNER/NAME") from error
    except Exception as error:  # the hub's client lets its transport's own exceptions through
        reason = " ".join(str(error).split())[:200]
        raise ModelFileError(f"fetching {name} failed: {reason}; run again to resume") from error
