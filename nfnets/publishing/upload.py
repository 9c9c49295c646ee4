"""Uploads a directory to a repository of the Hugging Face hub."""

from pathlib import Path

from nfnets.errors import InputError
from nfnets.files import why
from nfnets.weights.download import server_failure


def require_token(name: str) -> None:
    """Refuses to write to the hub where nobody is logged in.

    Raises:
      InputError: names what is missing.
    """
    from huggingface_hub import get_token

    if get_token() is None:
        raise InputError(f'{name} cannot be written: set HF_TOKEN, or log in by `hf auth login`')


def upload(folder: Path, repo: str) -> str:
    """Uploads the files of a directory in one commit; others in the repository stay.

    Args:
      folder: the directory.
      repo: 'OWNER/NAME'; made, public, where it does not exist.

    Returns:
      The address of the commit.

    Raises:
      InputError: the hub does not let this user write there.
      TrainingStopped: it does not answer, which may be over soon.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    api = HfApi()
    try:
        api.create_repo(repo, exist_ok=True)
        done = api.upload_folder(repo_id=repo, folder_path=folder, commit_message='Upload by nfnets-publish')
    except (HTTPError, OSError, ValueError) as error:
        raise _failure(repo, error) from error
    except RuntimeError as error:  # Of a large file; its cause is one of the others.
        raise _failure(repo, error.__cause__ or error) from error
    return str(done.commit_url)


def _failure(repo: str, error: BaseException) -> Exception:
    return server_failure(f'hf:{repo} cannot be written: {why(error)}', error)
