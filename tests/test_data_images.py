"""Image folders and archives: a fixed order, honest conversions, and no image lost in silence."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from probmetrics.data import DataError, open_images, read
from probmetrics.data.images import decode

rng = np.random.default_rng(0)
COLOUR = rng.integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
GREY = rng.integers(0, 256, (6, 4, 5), dtype=np.uint8)


def save(folder, images, name="{:02d}.png"):
    folder.mkdir(exist_ok=True, parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / name.format(i), lossless=True)
    return folder


def pack(path, folder):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*"), reverse=True):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    return path


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", ["png", "PNG", "bmp", "webp"])
@pytest.mark.parametrize("images", [COLOUR, GREY[..., None].repeat(3, -1)])
def test_pixels_come_back_as_stored(tmp_path, suffix, images):
    folder = save(tmp_path / "a", images, "{:02d}." + suffix)
    for source in (folder, str(folder), pack(tmp_path / "a.zip", folder)):
        got = read(source)
        np.testing.assert_array_equal(got.images, images)
        assert got.values.dtype == np.float32
        assert got.kind == "images"
        assert got.image_shape == (4, 5, 3)
        assert got.labels is None
        assert got.source == str(source)
    assert not list(tmp_path.glob("0*"))  # nothing was unpacked


def test_grey_stays_grey_and_mixtures_become_rgb(tmp_path):
    folder = save(tmp_path, GREY)
    got = read(folder)
    np.testing.assert_array_equal(got.images, GREY)
    assert got.notes == ()
    save(tmp_path, COLOUR[:2], "colour{}.png")
    got = read(folder)
    assert got.image_shape == (4, 5, 3)
    assert got.notes == ("6 grey images converted to RGB",)
    np.testing.assert_array_equal(got.images[0], GREY[0][..., None].repeat(3, -1))
    np.testing.assert_array_equal(got.images[6], COLOUR[0])


def test_jpeg(tmp_path):
    smooth = np.linspace(0, 255, 64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(smooth).save(tmp_path / "x.jpeg", quality=100)
    assert np.abs(read(tmp_path).images[0] - smooth).max() < 8


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("1", (0, 255)),
        ("LA", (10, 200)),
        ("P", (10, 200)),
        ("RGBA", (10, 200)),
        ("I;16", (10, 200)),
    ],
)
def test_modes(mode, expected):
    low, high = expected
    image = Image.fromarray(np.array([[low, high]], np.uint8))
    if mode == "I;16":
        image = Image.fromarray(np.array([[low * 257, high * 257]], np.uint16))
    elif mode == "P":
        image = image.convert("RGB").quantize(2)
    elif mode == "RGBA":
        image = image.convert("RGBA")
    else:
        image = image.convert(mode)
    pixels = decode(encoded(image))
    assert pixels.dtype == np.uint8
    assert pixels.ndim == (3 if mode in ("P", "RGBA") else 2)
    np.testing.assert_array_equal(pixels.reshape(2, -1)[:, 0], expected)


def test_subfolders_are_labels(tmp_path):
    save(tmp_path / "cat", COLOUR[:2])
    save(tmp_path / "dog" / "small", COLOUR[2:5])
    for source in (tmp_path, pack(tmp_path.parent / f"{tmp_path.name}.zip", tmp_path)):
        got = read(source)
        assert got.labels.tolist() == ["cat"] * 2 + ["dog/small"] * 3
        np.testing.assert_array_equal(got.images, COLOUR[:5])
    save(tmp_path, COLOUR[5:], "zz.png")
    assert read(tmp_path).labels is None


def test_sizes_must_agree_or_be_given(tmp_path):
    save(tmp_path, COLOUR[:2])
    save(tmp_path, [np.zeros((7, 3, 3), np.uint8)], "tall.png")
    with pytest.raises(DataError, match=r"'00.png' is 4×5 and 'tall.png' 7×3.*image_size"):
        read(tmp_path)
    assert read(tmp_path, image_size=8).image_shape == (8, 8, 3)
    got = read(tmp_path, image_size=(4, 5))
    assert got.image_shape == (4, 5, 3)
    np.testing.assert_array_equal(got.images[0], COLOUR[0])  # the right size is left alone


def test_subsample_decodes_only_its_images(tmp_path):
    save(tmp_path, np.stack([COLOUR[0] // 255 + i for i in range(40)]))
    got = read(tmp_path, max_samples=7, seed=1)
    assert got.notes[0] == "7 of 40 images drawn (seed 1)"
    order = got.images[:, 0, 0, 0]
    assert (np.diff(order) > 0).all()
    np.testing.assert_array_equal(got.values, read(tmp_path, max_samples=7, seed=1).values)
    for file in sorted(tmp_path.iterdir()):
        if int(file.stem) not in order:
            file.write_bytes(b"rubbish")
    np.testing.assert_array_equal(got.values, read(tmp_path, max_samples=7, seed=1).values)


def test_corrupt_images_are_named_and_fatal_or_counted(tmp_path):
    folder = save(tmp_path / "a", COLOUR)
    whole = (folder / "01.png").read_bytes()
    (folder / "01.png").write_bytes(whole[: len(whole) // 2])
    (folder / "03.png").write_bytes(b"not an image")
    (folder / "04.png").write_bytes(b"")
    for source in (folder, pack(tmp_path / "a.zip", folder)):
        with pytest.raises(DataError, match=r"'01.png' cannot be decoded.*on_corrupt='skip'"):
            read(source)
        got = read(source, on_corrupt="skip")
        np.testing.assert_array_equal(got.images, COLOUR[[0, 2, 5]])
        assert "3 corrupt images skipped: '01.png', '03.png', '04.png'" in got.notes
    (folder / "01.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"\('not PNG, JPEG, WEBP or BMP'\).*--skip-corrupt"):
        read(folder)
    for file in folder.iterdir():
        file.write_bytes(b"rubbish")
    with pytest.raises(DataError, match="all 6 images are corrupt"):
        read(folder, on_corrupt="skip")


def test_other_formats_are_not_tried(tmp_path):
    """PostScript would start a program; the name does not decide, the content must be an image."""
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(DataError, match=r"'x.png' cannot be decoded"):
        read(tmp_path)
    (tmp_path / "x.png").write_bytes(encoded(Image.fromarray(COLOUR[0]), "GIF"))
    with pytest.raises(DataError, match=r"'x.png' cannot be decoded"):
        read(tmp_path)


def test_nothing_to_read(tmp_path):
    with pytest.raises(DataError, match=r"holds no images \(0 other files\); wanted .png"):
        read(tmp_path)
    (tmp_path / "x.npy").write_bytes(b"")
    (tmp_path / ".hidden.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 other files: '.npy'"):
        read(tmp_path)
    path = tmp_path / "x.zip"
    path.write_bytes(b"PK\x05\x06" + b"\0" * 18)
    with pytest.raises(DataError, match="no images"):
        read(path)
    path.write_bytes(b"rubbish")
    with pytest.raises(DataError, match="not a zip archive"):
        read(path)


def test_encrypted_archives_are_refused(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("00.png", encoded(Image.fromarray(COLOUR[0])))
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    path.write_bytes(content)
    with pytest.raises(DataError, match="encrypted"):
        read(path)
    with pytest.raises(DataError, match="no such folder or archive"):
        open_images(tmp_path / "nowhere")


def test_other_files_are_ignored_and_counted(tmp_path):
    save(tmp_path, COLOUR)
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "._00.png").write_bytes(b"resource fork")
    assert read(tmp_path).notes == ("1 other file ignored",)


def test_archives_are_not_unpacked_and_names_are_only_names(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../escape.png", encoded(Image.fromarray(COLOUR[0])))
        archive.writestr("/absolute.png", encoded(Image.fromarray(COLOUR[1])))
    assert len(read(path)) == 2
    assert list(tmp_path.iterdir()) == [path]


def test_oversized_members_are_corrupt(tmp_path, monkeypatch):
    monkeypatch.setattr("probmetrics.data.images.LARGEST_FILE", 1000)
    save(tmp_path, COLOUR[:2])
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", b"\0" * 10**6)
        archive.write(tmp_path / "00.png", "ok.png")
    with pytest.raises(DataError, match=r"'bomb.png'.*1000000 bytes"):
        read(tmp_path / "x.zip")
    assert len(read(tmp_path / "x.zip", on_corrupt="skip")) == 1


def test_more_pixels_than_memory(tmp_path, monkeypatch):
    save(tmp_path, COLOUR)
    monkeypatch.setattr("probmetrics.data.dataset.available_memory", lambda: 1000)
    with pytest.raises(DataError, match="GiB of memory"):
        read(tmp_path)


def test_batches(tmp_path):
    save(tmp_path, GREY[:3])
    save(tmp_path, COLOUR[:2], "c{}.png")
    files = open_images(tmp_path)
    assert len(files) == 5
    batches = list(files.batches(2))
    assert [names for names, _ in batches] == [
        ["00.png", "01.png"],
        ["02.png", "c0.png"],
        ["c1.png"],
    ]
    assert all(pixels.dtype == np.uint8 for _, pixels in batches)
    np.testing.assert_array_equal(batches[0][1], GREY[:2, :, :, None].repeat(3, -1))
    np.testing.assert_array_equal(batches[2][1], COLOUR[1:2])
    (tmp_path / "01.png").write_bytes(b"rubbish")
    files = open_images(tmp_path, on_corrupt="skip", image_size=6)
    assert [p.shape for _, p in files.batches(3)] == [(3, 6, 6, 3), (1, 6, 6, 3)]
    assert files.corrupt == ["01.png"]
    next(files.batches(1))  # an abandoned iteration closes its threads and its archive


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    content=st.binary(max_size=60),
    head=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"RIFF\0\0\0\0WEBP"]),
)
def test_random_bytes_are_an_image_or_a_named_error(tmp_path, content, head):
    (tmp_path / "x.png").write_bytes(head + content)
    sound_or_refused(tmp_path)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    kind=st.sampled_from(["PNG", "JPEG", "BMP", "WEBP"]),
    position=st.floats(0, 1, exclude_max=True),
    byte=st.integers(0, 255),
)
def test_damaged_images_are_an_image_or_a_named_error(tmp_path, kind, position, byte):
    content = bytearray(encoded(Image.fromarray(COLOUR[0]), kind))
    content[int(position * len(content))] = byte
    (tmp_path / "x.png").write_bytes(content)
    sound_or_refused(tmp_path)


def sound_or_refused(folder):
    """Pixels between 0 and 255, or a one-line error that names the image; nothing else."""
    message, got = "", None
    try:
        got = read(folder)
    except DataError as error:
        message = str(error)
    if got is None:
        assert message.isprintable()
        assert "x.png" in message or "GiB" in message
    else:
        assert 0 <= got.values.min() <= got.values.max() <= 255
