"""Pictures are read as a viewer shows them: every stored form of one known picture gives the same array."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spheregeo.data import View, read_depth, read_image, read_labels
from spheregeo.data.sphere.pictures import decode
from spheregeo.data.sphere.pictures.decode import image_size

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 10, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (6, 10, 4), dtype=np.uint16)


def channels_first(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 0, 1)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_header(height: int, width: int, bits: int, kind: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))


def write_png16(path: Path, array: np.ndarray) -> Path:
    """A PNG of 16 bits with 1 to 4 channels, whose rows are filtered in turn by none, left and up."""
    height, width, channels = array.shape
    flat = array.astype(">u2").reshape(height, -1).view(np.uint8).astype(np.int64)
    left = np.pad(flat, ((0, 0), (2 * channels, 0)))[:, : flat.shape[1]]
    above = np.pad(flat, ((1, 0), (0, 0)))[:-1]
    predicted = [0 * flat, left, above]
    rows = b"".join(
        bytes([i % 3]) + ((flat[i] - predicted[i % 3][i]) % 256).astype(np.uint8).tobytes()
        for i in range(height)
    )
    header = png_header(height, width, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels])
    path.write_bytes(header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path


def write_tiff16(
    path: Path,
    array: np.ndarray,
    order: str,
    deflate: bool,
    white_is_zero: bool = False,
    orientation: int = 1,
) -> Path:
    """A TIFF of 16 bits in one strip, in either byte order, packed or not."""
    height, width, channels = array.shape
    data = array.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if deflate else data
    entries = [
        (256, 3, [width]), (257, 3, [height]), (258, 3, [16] * channels), (259, 3, [8 if deflate else 1]),
        (262, 3, [2 if channels > 2 else int(not white_is_zero)]), (273, 4, [0]), (274, 3, [orientation]), (277, 3, [channels]),
        (278, 3, [height]), (279, 4, [len(data)]),
    ]  # fmt: skip
    entries += [(338, 3, [2])] if channels == 4 else []
    long_values = struct.pack(f"{order}{channels}H", *[16] * channels) if channels > 2 else b""
    start = 8 + 2 + 12 * len(entries) + 4
    table = struct.pack(f"{order}H", len(entries))
    for tag, kind, values in entries:
        form = {3: "H", 4: "I"}[kind]
        at = struct.pack(f"{order}{len(values)}{form}", *values).ljust(4, b"\0")
        if len(values) > 2:
            at = struct.pack(f"{order}I", start)
        elif tag == 273:
            at = struct.pack(f"{order}I", start + len(long_values))
        table += struct.pack(f"{order}HHI", tag, kind, len(values)) + at
    mark = b"II*\0" if order == "<" else b"MM\0*"
    path.write_bytes(mark + struct.pack(f"{order}I", 8) + table + bytes(4) + long_values + data)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_camera_s_orientation_is_undone(tmp_path: Path, suffix: str, orientation: int) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16], upright[:8, 16:], upright[8:, :16] = (250, 10, 10), (10, 250, 10), (10, 10, 250)
    # how each orientation stores the upright picture, as EXIF defines it by the sides of row 0 and column 0
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1), 7: upright.swapaxes(0, 1)[::-1, ::-1], 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo{suffix}"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, **quality(suffix))
    assert image_size(path) == (16, 32)
    np.testing.assert_allclose(read_image(path), channels_first(upright / 255), atol=0.03)


def quality(suffix: str) -> dict[str, Any]:
    return {"quality": 100, "subsampling": 0} if suffix == ".jpg" else {}


@pytest.mark.parametrize("orientation", [1, 5, 6])
def test_pictures_of_16_bits_are_turned_too(tmp_path: Path, orientation: int) -> None:
    deep = DEEP[..., :3]
    want = channels_first({1: deep, 5: deep.swapaxes(0, 1), 6: np.rot90(deep, -1)}[orientation] / 65535)
    tiff = write_tiff16(tmp_path / "a.tif", deep, "<", True, orientation=orientation)
    png, exif = write_png16(tmp_path / "a.png", deep), Image.Exif()
    exif[0x0112] = orientation
    content = png.read_bytes()
    png.write_bytes(content[:33] + chunk(b"eXIf", exif.tobytes()[6:]) + content[33:])  # behind the header
    for path in (tiff, png):
        np.testing.assert_allclose(read_image(path), want, atol=1e-6)
        assert image_size(path) == want.shape[1:]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_are_read_in_full(tmp_path: Path, channels: int) -> None:
    deep = DEEP[..., :channels]
    want = channels_first(np.repeat(deep[..., :1], 3, -1) if channels < 3 else deep[..., :3]) / 65535
    files = [write_png16(tmp_path / "deep.png", deep)]
    if channels != 2:
        for order in "<>":
            for deflate in (False, True):
                name = f"deep{ord(order)}{deflate}.tif"
                files.append(write_tiff16(tmp_path / name, deep, order, deflate))
    for path in files:
        np.testing.assert_allclose(read_image(path), want, atol=1e-6, err_msg=path.name)


def test_white_may_be_zero(tmp_path: Path) -> None:
    path = write_tiff16(tmp_path / "negative.tif", DEEP[..., :1], "<", False, white_is_zero=True)
    np.testing.assert_allclose(read_image(path)[0], 1 - DEEP[..., 0] / 65535, atol=1e-6)


def test_every_colour_mode_of_a_grey_picture_is_the_same_grey(tmp_path: Path) -> None:
    grey = np.tile(np.arange(0, 250, 25, dtype=np.uint8), (6, 1))
    image = Image.fromarray(grey)
    forms: dict[str, Image.Image] = {m: image.convert(m) for m in ("L", "LA", "RGB", "RGBA", "P", "CMYK")}
    forms["palette with transparency"] = image.convert("P")
    for name, form in forms.items():
        path = tmp_path / ("x.tif" if name == "CMYK" else "x.png")
        extra = {"transparency": bytes([0, 128] + [255] * 254)} if "transparency" in name else {}
        form.save(path, **extra)
        # Pillow's palette of greys is exact, its CMYK of greys too
        np.testing.assert_allclose(
            read_image(path), np.repeat(grey[None], 3, 0) / 255, atol=1e-6, err_msg=name
        )


def test_cmyk_jpegs_of_printers_and_cameras_are_read(tmp_path: Path) -> None:
    flat = np.zeros((16, 32, 3), np.uint8)
    flat[:, :16], flat[:, 16:] = (200, 60, 30), (20, 90, 220)
    Image.fromarray(flat).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100, subsampling=0)
    np.testing.assert_allclose(read_image(tmp_path / "cmyk.jpg"), channels_first(flat / 255), atol=0.02)


def test_of_an_animation_the_first_frame_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 4), colour) for colour in ("red", "blue")]
    for suffix in (".gif", ".png", ".tif"):
        path = tmp_path / f"moving{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        np.testing.assert_allclose(read_image(path)[:, 0, 0], (1, 0, 0), atol=0.01)


def test_a_bomb_is_refused_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(
        png_header(60000, 120000, 8, 2) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )
    for read in (read_image, read_depth, lambda path: read_labels(path, 3), image_size):
        with pytest.raises(
            ValueError, match=r"bomb\.png is 60000 x 120000 pixels.*at most 268,435,456 pixels"
        ):
            read(bomb)
    Image.new("L", (40, 20)).save(tmp_path / "fine.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow's own limit is neither used nor changed
    assert read_image(tmp_path / "fine.png").shape == (3, 20, 40) and Image.MAX_IMAGE_PIXELS == 100
    monkeypatch.setattr(decode, "MAX_PIXELS", 799)
    with pytest.raises(ValueError, match="at most 799 pixels"):
        read_image(tmp_path / "fine.png")


def test_a_header_of_more_rows_than_there_are_is_named(tmp_path: Path) -> None:
    path = write_tiff16(tmp_path / "tall.tif", DEEP[..., :3], "<", False)
    content = path.read_bytes()
    path.write_bytes(
        content.replace(struct.pack("<HHIH", 257, 3, 1, 6), struct.pack("<HHIH", 257, 3, 1, 6000), 1)
    )
    with pytest.raises(
        ValueError, match=r"tall\.tif .*its header says 6000 x 10 pixels but there are 6 x 10"
    ):
        read_image(path)


def test_values_beyond_white_are_named(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 8), 2.5, np.float32)).save(tmp_path / "hdr.tif")
    with pytest.raises(ValueError, match=r"hdr\.tif holds values 2\.5 \.\.\. 2\.5; expected 0 \.\.\. 1"):
        read_image(tmp_path / "hdr.tif")
    Image.fromarray(np.full((4, 8), 70000, np.int32)).save(tmp_path / "int.tif")
    with pytest.raises(ValueError, match=r"int\.tif holds values 70000"):
        read_image(tmp_path / "int.tif")


METRES = RNG.uniform(0.5, 9, (4, 8)).round(3).astype(np.float32)


def test_depth_is_told_or_detected(tmp_path: Path) -> None:
    def stored(name: str, array: np.ndarray) -> Path:
        path = tmp_path / name
        np.save(path, array) if name.endswith("npy") else Image.fromarray(array).save(path)
        return path

    millimetres = np.rint(METRES * 1000).astype(np.uint16)
    for path in (
        stored("mm.png", millimetres), stored("mm.tif", millimetres),
        stored("m.tif", METRES), stored("m.npy", METRES),
    ):  # fmt: skip
        np.testing.assert_allclose(read_depth(path), METRES, atol=6e-4, err_msg=path.name)
    for name, values in (("mm.npy", millimetres), ("whole.npy", np.rint(METRES).astype(np.int64))):
        path = stored(name, values)  # near walls in centimetres and halls in metres look alike
        with pytest.raises(ValueError, match=r"\.npy holds depths of type u?int.* --data\.depth_unit"):
            read_depth(path)
    np.testing.assert_allclose(read_depth(tmp_path / "mm.npy", "mm"), METRES, atol=6e-4)
    kitti = stored("kitti.png", np.rint(METRES * 256).astype(np.uint16))
    np.testing.assert_allclose(read_depth(kitti, 1 / 256), METRES, atol=3e-3)
    told = stored("float-mm.npy", METRES * 1000)
    np.testing.assert_allclose(read_depth(told, "mm"), METRES, rtol=1e-5)
    with pytest.raises(ValueError, match=r"float-mm\.npy would have a median depth of .* say its unit"):
        read_depth(told)
    whole = stored("whole-metres.png", np.rint(METRES).astype(np.uint16))
    with pytest.raises(
        ValueError, match=r"whole-metres\.png would have a median depth of 0\.00\d+ m in millimetres"
    ):
        read_depth(whole)
    np.testing.assert_allclose(read_depth(whole, "m"), np.rint(METRES))
    coarse = stored("coarse.png", np.rint(METRES * 10).astype(np.uint8))
    np.testing.assert_allclose(read_depth(coarse, 0.1), METRES, atol=0.06)
    for unit in ("inch", -1, 0, float("nan")):
        with pytest.raises(ValueError, match="depth unit is"):
            read_depth(whole, unit)


LABEL = RNG.integers(0, 3, (4, 8), dtype=np.uint8)
TABLE = np.array([[128, 64, 0], [0, 0, 0], [250, 250, 250]], np.uint8)


def palette_png(path: Path, indices: np.ndarray, colours: np.ndarray) -> Path:
    image = Image.fromarray(indices, "L").convert("P")
    image.putdata(indices.ravel().tolist())
    image.putpalette(colours.ravel().tolist())
    image.save(path)
    return path


def test_labels_may_be_colours_of_a_table(tmp_path: Path) -> None:
    files = {"rgb.png": TABLE[LABEL], "rgba.png": np.dstack([TABLE[LABEL], np.full((4, 8), 255, np.uint8)])}
    for name, array in files.items():
        Image.fromarray(array).save(tmp_path / name)
        np.testing.assert_array_equal(read_labels(tmp_path / name, 3, colours=TABLE), LABEL)
    # a palette in another order: its colours are the table's, and say the class
    order = np.array([2, 0, 1])
    mixed = palette_png(tmp_path / "mixed.png", np.argsort(order)[LABEL].astype(np.uint8), TABLE[order])
    np.testing.assert_array_equal(read_labels(mixed, 3, colours=TABLE), LABEL)
    other = palette_png(
        tmp_path / "other.png", LABEL, TABLE + 5
    )  # colours for show: the indices are the classes
    np.testing.assert_array_equal(read_labels(other, 3, colours=TABLE), LABEL)


def test_colours_that_are_no_class_are_named_or_void(tmp_path: Path) -> None:
    rgb = TABLE[LABEL]
    rgb[1, 2] = (1, 2, 3)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png has colour #010203 at row 1, column 2"):
        read_labels(tmp_path / "a.png", 3, colours=TABLE)
    want = LABEL.astype(int)
    want[1, 2] = 255
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png", 3, colours=TABLE, void=["#010203"]), want)
    with pytest.raises(ValueError, match="void holds 'black'; expected label values, or colours"):
        read_labels(tmp_path / "a.png", 3, void=["black"])


def test_values_of_labels_of_all_kinds(tmp_path: Path) -> None:
    many = np.array([[0, 300, 1000, 65535]], np.uint16).repeat(2, 0)
    Image.fromarray(many).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "deep.png", 1001), [[0, 300, 1000, 255]] * 2)
    with pytest.raises(
        ValueError, match=r"deep\.png has label 300 at row 0, column 1 \(4 such pixels, values 300, 1000\)"
    ):
        read_labels(tmp_path / "deep.png", 3)
    np.testing.assert_array_equal(
        read_labels(tmp_path / "deep.png", 3, void=[300, "1000"]), [[0, 255, 255, 255]] * 2
    )
    Image.fromarray(LABEL[..., None].repeat(3, -1)).save(tmp_path / "grey.png")  # grey, stored as RGB
    np.testing.assert_array_equal(read_labels(tmp_path / "grey.png", 3), LABEL)
    Image.fromarray(LABEL).save(tmp_path / "lossy.jpg")
    with pytest.raises(ValueError, match=r"lossy\.jpg is a JPEG, which changes values"):
        read_labels(tmp_path / "lossy.jpg", 3)


def analytic(forward: np.ndarray, right: np.ndarray, up: np.ndarray) -> np.ndarray:
    """A smooth field (1, ...) without any symmetry, in 0 ... 1."""
    return (0.5 + 0.2 * up + 0.15 * forward * right - 0.1 * right * up + 0.1 * forward)[None].astype(
        np.float32
    )


def whole(size: int) -> np.ndarray:
    lat = np.pi / 2 - (np.arange(size) + 0.5)[:, None] * np.pi / size
    lon = -np.pi + (np.arange(2 * size) + 0.5) * np.pi / size
    return analytic(np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat) + 0 * lon)


def camera(
    side: int, yaw: float, pitch: float, hfov: float = 90.0, shape: tuple[int, int] | None = None
) -> np.ndarray:
    """What a camera sees that is turned right by yaw, then up by pitch: rays through its pixels, turned as matrices."""
    height, width = shape or (side, side)
    scale = np.tan(np.radians(hfov / 2)) * 2 / width
    x, y = np.meshgrid(np.arange(width) - (width - 1) / 2, (height - 1) / 2 - np.arange(height))
    ray = np.stack([np.ones_like(x), x * scale, y * scale])  # forward, right, up
    ray /= np.linalg.norm(ray, axis=0)
    a, b = np.radians(yaw), np.radians(pitch)
    tilt = np.array([[np.cos(b), 0, -np.sin(b)], [0, 1, 0], [np.sin(b), 0, np.cos(b)]])
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    return analytic(*np.einsum("ij,jhw->ihw", turn @ tilt, ray))


SIDE = 32
CUBE = dict(
    zip("frblud", [camera(SIDE, *t) for t in ((0, 0), (90, 0), (180, 0), (-90, 0), (0, 90), (0, -90))], strict=True)
)  # fmt: skip


def sheet(rows: list[str], flipped: str = "") -> np.ndarray:
    """Faces laid out as letters in rows; a dot is an empty place."""
    empty = np.zeros((1, SIDE, SIDE), np.float32)
    parts = {**CUBE, ".": empty, **{letter: CUBE[letter][:, ::-1, ::-1] for letter in flipped}}
    return np.concatenate([np.concatenate([parts[letter] for letter in row], -1) for row in rows], -2)


@pytest.mark.parametrize(
    ("picture", "options"),
    [
        (sheet([".u..", "lfrb", ".d.."]), {}),
        (sheet([".u.", "lfr", ".d.", ".b."], flipped="b"), {}),
        (sheet(["frblud"]), {}),
        (sheet(["r", "l", "u", "d", "f", "b"]), {"faces": "rludfb"}),
    ],
    ids=["cross", "standing cross", "strip", "standing strip in another order"],
)
def test_cube_maps_are_the_panorama_that_they_were_made_of(
    picture: np.ndarray, options: dict[str, Any]
) -> None:
    got = View("cube", **options).panorama(picture)
    assert got.shape == (1, 2 * SIDE, 4 * SIDE)
    np.testing.assert_allclose(
        got, whole(2 * SIDE), atol=0.012
    )  # half a pixel beyond a face's border is its border


def test_partial_panoramas_have_void_around(tmp_path: Path) -> None:
    panorama = whole(48)
    part = panorama[:, 12:36, 16:80]  # 90 degrees high, 240 wide
    for view in (View(hfov=240.0, vfov=90.0), View(hfov=240.0)):
        got = view.panorama(part)
        assert got.shape == (1, 48, 96) and np.isnan(got).sum() == got.size - part.size
        np.testing.assert_allclose(got[:, 12:36, 16:80], part, atol=1e-6)
    labels = (part[0] * 10).astype(int)
    np.testing.assert_array_equal(View(hfov=240.0).nearest(labels, 255)[12:36, 16:80], labels)
    np.testing.assert_array_equal(View(vfov=180.0).panorama(panorama), panorama)  # a whole one is left alone


def test_perspective_and_fisheye_pictures_show_what_they_saw() -> None:
    flat = camera(0, 0, 0, 100.0, (60, 90))
    got = View("perspective", hfov=100.0).panorama(flat)
    truth = whole(got.shape[1])
    seen = np.isfinite(got)
    np.testing.assert_allclose(got[seen], truth[seen], atol=0.006)
    # the solid angle of a rectangular pyramid
    step = np.pi / got.shape[1]
    solid = (seen[0] * np.sin((np.arange(got.shape[1]) + 0.5) * step)[:, None]).sum() * step**2
    a, b = np.tan(np.radians(50)), np.tan(np.radians(50)) * 60 / 90
    assert solid == pytest.approx(4 * np.arcsin(a * b / np.sqrt((1 + a * a) * (1 + b * b))), rel=0.02)
    y, x = np.meshgrid((31.5 - np.arange(64)) / 32, (np.arange(64) - 31.5) / 32, indexing="ij")
    angle, turn = np.hypot(x, y) * np.radians(95), np.arctan2(y, x)
    circle = analytic(np.cos(angle), np.sin(angle) * np.cos(turn), np.sin(angle) * np.sin(turn))
    got = View("fisheye", hfov=190.0).panorama(circle)
    seen = np.isfinite(got)
    np.testing.assert_allclose(got[seen], whole(got.shape[1])[seen], atol=0.012)
    assert 0.5 < seen.mean() < 0.6


@pytest.mark.parametrize(
    ("view", "picture"),
    [
        (View("perspective", hfov=100.0), camera(0, 0, 0, 100.0, (240, 363))),
        (View(hfov=240.0), whole(192)[:, 48:144, 64:320]),
        (View("cube"), np.repeat(np.repeat(sheet([".u..", "lfrb", ".d.."]), 2, 1), 2, 2)),
        (View("cube"), sheet(["frblud"])),
    ],
    ids=["perspective", "partial", "cross", "strip"],
)
def test_a_panorama_of_fewer_rows_shows_the_same(view: View, picture: np.ndarray) -> None:
    got, full = view.panorama(picture[..., ::-1].copy()[..., ::-1], 40), view.panorama(picture)
    assert got.shape == (1, 40, 80) and got.dtype == np.float32 and full.shape[1] > 60
    seen = np.isfinite(got)
    np.testing.assert_allclose(got[seen], whole(40)[seen], atol=0.02)
    assert seen.mean() == pytest.approx(np.isfinite(full).mean(), abs=0.01)
    labels = np.rint(picture[0] * 1000).astype(int)
    near = view.nearest(labels, -1, 40)
    assert np.array_equal(near >= 0, seen[0])
    np.testing.assert_allclose(near[seen[0]] / 1000, whole(40)[seen], atol=0.02)
    assert np.array_equal(view.panorama(picture, 10**6), full, equal_nan=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"projection": "mercator"}, "projection is 'mercator'; expected one of"),
        ({"projection": "perspective"}, "needs hfov"),
        ({"projection": "perspective", "hfov": 190.0}, "hfov is 190.0 .* at most 175"),
        ({"projection": "cube", "hfov": 90.0}, "a cube has no field of view"),
        ({"faces": "abcdef"}, "faces is 'abcdef'"),
    ],
)
def test_views_that_cannot_be_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        View(**options)


def test_pictures_that_do_not_fit_their_view() -> None:
    with pytest.raises(ValueError, match=r"cube map of 10 x 25 pixels .* has no known layout"):
        View("cube").panorama(np.zeros((1, 10, 25), np.float32))
    with pytest.raises(ValueError, match="would cover 270 x 360 degrees"):
        View(hfov=270.0).panorama(np.zeros((1, 40, 30), np.float32))
