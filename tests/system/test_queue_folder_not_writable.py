"""The queue's folder cannot be written: exit 1, with its name and the reason."""

import os


def test_read_only_disk(start_mta, tmp_path):
    place = tmp_path / "ro"
    place.mkdir()
    mta = start_mta({"state_dir": str(place / "state")}, wait=False,
                    wrapper=["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o ro tmpfs "{place}" && exec "$@"', "sh"])
    code, text = mta.run_once()
    assert code == 1 and str(place) in text and "read-only" in text.lower(), text


def test_folder_of_another_user(start_mta, tmp_path):
    """Started as root with `user`, the folder belonging to root."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder != folder.parent:
            folder.chmod(folder.stat().st_mode | 0o111)
    place = tmp_path / "state"
    place.mkdir(mode=0o700)
    mta = start_mta({"state_dir": str(place), "user": "nobody"}, wait=False)
    code, text = mta.run_once()
    assert code == 1 and str(place) in text and "ermission denied" in text and "nobody" in text, text
