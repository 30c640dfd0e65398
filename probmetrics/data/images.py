"""Images from a folder or a zip archive, decoded in memory and in a fixed order."""

import io
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from probmetrics import _checks as checks
from probmetrics.data import dataset
from probmetrics.data.arrays import Size
from probmetrics.data.dataset import DataError, Dataset, listed, shown

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")  # others, such as PostScript, may start a program
DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I")  # 16-bit grey
GREY = ("1", "L", "LA", "La", *DEEP)
LARGEST_FILE = 2**28  # bytes of one compressed or unpacked image
CHUNK = 64  # images decoded ahead


@dataclass(frozen=True)
class ImageFiles:
    """The images of a folder (with its subfolders) or a zip archive, read one batch at a time.

    Names are sorted, so the order does not depend on the file system. Nothing is written to disk.
    Pixels are as stored, 0 to 255 (16-bit grey is scaled to that range); palettes become RGB,
    transparency is dropped, the first frame of an animation is taken, and EXIF rotation is not
    applied.

    Attributes:
        path: The folder or archive.
        names: Paths of the images inside it.
        image_size: (height, width) to which every image is resized (Pillow's bicubic filter), or
            None to refuse images of different sizes.
        on_corrupt: ``"error"``: an image that cannot be decoded is fatal; ``"skip"``: it is left
            out and named in ``corrupt``.
        corrupt: Names of the images left out so far.
        notes: Files in the folder that are no images, and the like.
    """

    path: Path
    names: tuple[str, ...]
    image_size: Size | None = None
    on_corrupt: str = "error"
    corrupt: list[str] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def labels(self) -> NDArray[Any] | None:
        """The subfolder of each image, if all lie in subfolders."""
        return _labels(self.names)

    def batches(self, batch_size: int = 64) -> Iterator[tuple[list[str], NDArray[np.uint8]]]:
        """Names and pixels, shape (b, height, width, 3), of one batch after the other, in RGB.

        All images of a source share one size here; memory is one batch.
        """
        checks.count(batch_size, "batch_size")
        names: list[str] = []
        pixels: list[NDArray[Any]] = []
        for name, image in self.decoded():
            names.append(name)
            pixels.append(_rgb(image))
            if len(names) == batch_size:
                yield names, np.stack(pixels)
                names, pixels = [], []
        if names:
            yield names, np.stack(pixels)

    def decoded(self) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """Name and pixels, (height, width) or (height, width, 3), of each image in turn.

        Raises:
            DataError: A corrupt image (unless skipped), or one of another size than the first.
        """
        first: tuple[str, tuple[int, ...]] | None = None
        for name, image in self._attempts():
            if isinstance(image, DataError):
                self._left_out(name, image)
                continue
            first = first or (name, image.shape[:2])
            self._same_size(name, image.shape[:2], first)
            yield name, image

    def _attempts(self) -> Iterator[tuple[str, NDArray[np.uint8] | DataError]]:
        """Name and pixels, or what is wrong with the image, a few decoded ahead in threads."""
        with ExitStack() as stack:
            archive = None
            if not self.path.is_dir():
                archive = stack.enter_context(zipfile.ZipFile(self.path))
            pool = stack.enter_context(ThreadPoolExecutor(4))  # Pillow decodes without the lock
            for start in range(0, len(self.names), CHUNK):
                chunk = self.names[start : start + CHUNK]
                yield from zip(chunk, pool.map(partial(self._attempt, archive), chunk), strict=True)

    def _attempt(self, archive: zipfile.ZipFile | None, name: str) -> NDArray[np.uint8] | DataError:
        """The pixels, or the error if the image is corrupt."""
        try:
            return decode(self._bytes(archive, name), self.image_size)
        except Exception as error:  # damaged files make Pillow raise almost anything
            reason = str(error).split("\n")[0].replace(str(self.path), "") or type(error).__name__
            if isinstance(error, UnidentifiedImageError):  # its text is an address in memory
                reason = f"not {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
            return DataError(
                f"{self.path}: image {shown(name, 120)} cannot be decoded ({shown(reason, 80)}); "
                "replace it, or leave such images out with on_corrupt='skip' (--skip-corrupt)"
            )

    def _bytes(self, archive: zipfile.ZipFile | None, name: str) -> bytes:
        if archive is None:
            _refuse_huge((self.path / name).stat().st_size)
            return (self.path / name).read_bytes()
        _refuse_huge(archive.getinfo(name).file_size)
        return archive.read(name)

    def _left_out(self, name: str, error: DataError) -> None:
        if self.on_corrupt != "skip":
            raise error
        self.corrupt.append(name)

    def _same_size(
        self, name: str, shape: tuple[int, ...], first: tuple[str, tuple[int, ...]]
    ) -> None:
        if shape != first[1]:
            (h, w), (height, width) = shape, first[1]
            raise DataError(
                f"{self.path}: images differ in size: {shown(first[0], 80)} is {height}×{width} "
                f"and {shown(name, 80)} {h}×{w} (height×width); pass image_size "
                "(--image-size) to resize all"
            )


def open_images(
    source: str | Path,
    *,
    image_size: int | Size | None = None,
    on_corrupt: str = "error",
    max_samples: int | None = None,
    seed: int = 0,
) -> ImageFiles:
    """The images of a folder or zip archive, to be decoded batch by batch.

    Args:
        source: The folder (subfolders are searched) or archive of PNG, JPEG, WebP or BMP files.
        image_size: Height and width (or one number for both) to resize to.
        on_corrupt: ``"error"`` or ``"skip"``.
        max_samples: Most images to keep, drawn without replacement.
        seed: Seed of that draw.

    Returns:
        The files found; nothing is decoded yet.

    Raises:
        DataError: There are no images, or the archive is damaged or encrypted.

    Example:
        >>> import tempfile, pathlib, numpy as np
        >>> from PIL import Image, UnidentifiedImageError
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for i in range(3):
        ...     Image.fromarray(np.full((4, 5), i, np.uint8)).save(folder / f"{i}.png")
        >>> [pixels.shape for names, pixels in open_images(folder).batches(2)]
        [(2, 4, 5, 3), (1, 4, 5, 3)]
    """
    path = Path(dataset.named_path(source))
    checks.choice(on_corrupt, "on_corrupt", ["error", "skip"])
    if not path.exists():
        raise DataError(f"no such folder or archive: {shown(str(source), 120)}")
    found, others = _folder_files(path) if path.is_dir() else _archive_files(path)
    if not found:
        kinds = sorted({PurePosixPath(name).suffix.lower() or "no suffix" for name in others})
        raise DataError(
            f"{source} holds no images ({len(others)} other files"
            + (f": {listed(kinds)}" if kinds else "")
            + f"); wanted {', '.join(SUFFIXES)}"
        )
    notes = [f"{len(others)} other file{'s' * (len(others) != 1)} ignored"] if others else []
    kept = dataset.subsample_rows(len(found), max_samples, seed)
    if kept is not None:
        notes.append(dataset.subsample_note(len(found), len(kept), seed, "images"))
        found = [found[i] for i in kept]
    return ImageFiles(path, tuple(found), sized(image_size), on_corrupt, [], tuple(notes))


def read_images(files: ImageFiles, source: str, *, progress: bool | None = None) -> Dataset:
    """Dataset of all images, in ``float32``, grey where all are grey and RGB where some are not.

    Args:
        files: What `open_images` found.
        source: What to call it.
        progress: Show a progress bar; None shows it on a terminal.
    """
    from tqdm import tqdm

    names: list[str] = []
    pixels: list[NDArray[np.uint8]] = []
    disable = None if progress is None else not progress
    for name, image in tqdm(files.decoded(), total=len(files), desc=source, disable=disable):
        if not pixels:
            dataset.refuse_beyond_memory(
                5.0 * image.size * len(files), source, "pass --max-samples or a smaller image size"
            )
        names.append(name)
        pixels.append(image)
    if not pixels:
        raise DataError(
            f"{source}: all {len(files)} images are corrupt, first {files.corrupt[0]!r}"
        )
    notes = [*files.notes, *_corrupt_note(files)]
    grey = sum(image.ndim == 2 for image in pixels)
    if 0 < grey < len(pixels):
        notes.append(f"{grey} grey image{'s' * (grey != 1)} converted to RGB")
        pixels = [_rgb(image) for image in pixels]
    shape = pixels[0].shape
    values = np.empty((len(pixels), int(np.prod(shape))), dtype=np.float32)
    for row, image in zip(values, pixels, strict=True):
        row[:] = image.reshape(-1)
    return Dataset(
        values=values,
        columns=dataset.generated_columns(values.shape[1], shape),
        labels=_labels(names),
        source=source,
        kind="images",
        notes=tuple(notes),
        image_shape=shape,
    )


def decode(content: bytes, image_size: Size | None = None) -> NDArray[np.uint8]:
    """Pixels, 0 to 255, of a PNG, JPEG, WebP or BMP: (height, width) or (height, width, 3)."""
    image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
    if image.mode in DEEP:
        image = Image.fromarray(
            (np.asarray(image, dtype=np.float64) / 257).round().astype(np.uint8)
        )
    image = image.convert("L" if image.mode in GREY else "RGB")
    if image_size is not None and image.size != image_size[::-1]:
        image = image.resize(image_size[::-1], Image.Resampling.BICUBIC)
    return np.asarray(image)


def sized(image_size: object) -> Size | None:
    """``image_size`` as (height, width): one number means a square."""
    if image_size is None:
        return None
    pair = image_size if isinstance(image_size, tuple | list) else (image_size, image_size)
    if len(pair) != 2:
        raise ValueError(f"image_size must be one number or (height, width), got {image_size!r}")
    return checks.count(pair[0], "image_size"), checks.count(pair[1], "image_size")


def holds_images(path: Path) -> bool:
    """Whether there is an image somewhere in a folder."""
    return bool(_folder_files(path)[0])


def _folder_files(path: Path) -> tuple[list[str], list[str]]:
    files = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    return _split(files)


def _archive_files(path: Path) -> tuple[list[str], list[str]]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
    except Exception as error:
        raise DataError(
            f"{path} is damaged or not a zip archive ({error}); pack it again"
        ) from error
    if any(info.flag_bits & 1 for info in infos):
        raise DataError(f"{path} is encrypted; pack the images without a password")
    return _split(sorted(dict.fromkeys(info.filename for info in infos)))


def _split(files: list[str]) -> tuple[list[str], list[str]]:
    """Images and other files; hidden ones (and what macOS adds to archives) are neither."""
    visible = [
        name
        for name in files
        if not any(
            part.startswith((".", "__MACOSX")) and part != ".."
            for part in PurePosixPath(name).parts
        )
    ]
    images = [name for name in visible if name.lower().endswith(SUFFIXES)]
    return images, [name for name in visible if not name.lower().endswith(SUFFIXES)]


def _labels(names: tuple[str, ...] | list[str]) -> NDArray[Any] | None:
    folders = [PurePosixPath(name).parent.as_posix() for name in names]
    return None if "." in folders or len(set(folders)) < 2 else np.array(folders, dtype=np.str_)


def _corrupt_note(files: ImageFiles) -> list[str]:
    k = len(files.corrupt)
    return [f"{k} corrupt image{'s' * (k != 1)} skipped: {listed(files.corrupt)}"] if k else []


def _rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)


def _refuse_huge(size: int) -> None:
    if size > LARGEST_FILE:
        raise ValueError(f"{size} bytes, more than {LARGEST_FILE}")
