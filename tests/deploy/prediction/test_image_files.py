"""Images given as folders and files."""

import os

import pytest
from image_files import picture

from kd.deploy.prediction.image_files import ImageFiles
from kd.errors import UserError


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "a" / "deep").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for name in ("b.png", "a/c.JPG", "a/deep/d.gif", ".hidden/e.png", ".f.png"):
        with (folder / name).open("wb") as file:
            picture(0).save(file, {"G": "JPEG", "f": "GIF"}.get(name[-1], "PNG"))
    (folder / "notes.txt").write_text("not an image")
    return folder


def names(files, folder):
    return [path.relative_to(folder).as_posix() for path in files]


def test_nested_images_are_listed_by_folder_and_name(photos):
    files = ImageFiles([photos])
    assert names(files, photos) == ["b.png", "a/c.JPG", "a/deep/d.gif"]
    assert names(files, photos) == ["b.png", "a/c.JPG", "a/deep/d.gif"]
    assert str(files.left_out) == f"1 .txt ({photos}/notes.txt), 1 hidden ({photos}/.f.png)"
    assert not [*files.unreadable()]


def test_folders_and_files_keep_their_order(photos):
    given = [photos / "a" / "deep", photos / "b.png", photos / "notes.txt"]
    assert names(ImageFiles(given), photos) == ["a/deep/d.gif", "b.png", "notes.txt"]


def test_patterns_stand_for_files(photos):
    (photos / "gone.png").symlink_to("nowhere")
    os.mkfifo(photos / "pipe.png")
    (photos / "[a].png").write_bytes((photos / "b.png").read_bytes())
    assert names(ImageFiles([photos / "*.png"]), photos) == ["[a].png", "b.png", "gone.png"]
    assert names(ImageFiles([photos / "**" / "*.[gJ]*"]), photos) == ["a/c.JPG", "a/deep/d.gif"]
    assert names(ImageFiles([photos / "[a].png"]), photos) == ["[a].png"]
    assert names(ImageFiles([photos / "[ab]"]), photos) == ["a/c.JPG", "a/deep/d.gif"]


def test_links_are_followed_and_loops_end(photos, tmp_path):
    (tmp_path / "more").mkdir()
    picture(1).save(tmp_path / "more" / "g.png")
    (photos / "linked").symlink_to(tmp_path / "more")
    (photos / "loop").symlink_to(photos)
    (photos / "h.png").symlink_to(photos / "b.png")
    files = ImageFiles([photos])
    assert "linked/g.png" in names(files, photos)
    assert "h.png" in names(files, photos)
    assert f"1 link to a folder above ({photos}/loop/)" in str(files.left_out)


def test_broken_links_and_empty_files_are_unreadable(photos):
    (photos / "gone.png").symlink_to("nowhere")
    (photos / "empty.png").touch()
    files = ImageFiles([photos])
    assert "gone.png" not in names(files, photos)
    assert {*files.unreadable()} == {
        (f"{photos}/gone.png", "broken link"),
        (f"{photos}/empty.png", "empty file"),
    }


def test_all_that_is_missing_is_named_with_the_nearest(photos):
    os.mkfifo(photos / "pipe.png")
    given = [photos / "bb.png", photos.with_name("photo"), photos / "pipe.png"]
    with pytest.raises(UserError) as raised:
        ImageFiles(given)
    lines = str(raised.value).splitlines()
    assert lines[0].endswith(
        f"bb.png: there is no such folder or file; did you mean '{photos}/b.png'?"
    )
    assert lines[1].endswith(f"did you mean '{photos}'?")
    assert "pipe.png is a named pipe" in lines[2]


def test_a_folder_without_images_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("not an image")
    files = ImageFiles([tmp_path])
    with pytest.raises(UserError, match=r"images=.*: there is no image; left out: 1 \.txt"):
        files.check_not_empty()
