from __future__ import annotations

import csv
import io
import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps

from lchp.api import results
from lchp.cli import run as command
from lchp.store.folder import StageFolder
from lchp.store.localizer import Found
from lchp.store.model_file import read_file, write_file
from lchp.store.per_image import CORNERS
from lchp.study.use.formats import written
from lchp.study.use.predict import Prediction, Unread, predictions, turned, upright
from tests.study.conftest import Trained


@pytest.fixture(scope="module")
def exported(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trial in a file."""
    file = tmp_path_factory.mktemp("exported") / "bird.safetensors"
    assert command(["export", trained.run, str(file), "--output", str(trained.output)]) == 0
    return file


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def boxes_of(stage: StageFolder, method: str) -> list[list[str]]:
    """The boxes in per_image.csv of a method on test."""
    wanted = (row for row in stage.per_image() if row["method"] == method and row["split"] == "test")
    return [[row[name] for name in CORNERS] for row in wanted]


def predicted(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, str]]:
    capsys.readouterr()
    assert command(["predict", *arguments, "--format", "csv"]) == 0
    return rows(capsys.readouterr().out)


def test_predict_of_run_folder_and_file_gives_the_boxes_of_per_image_to_the_bit(
    trained: Trained, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = str(trained.images), ["--output", str(trained.output)]
    by_run = predicted(capsys, trained.run, images, *out)
    assert [[row[name] for name in CORNERS] for row in by_run] == boxes_of(trained.stage, "lchp_r")
    is_right = [row["class"] == Path(row["path"]).parent.name for row in by_run]
    wanted = [row for row in trained.stage.per_image() if row["method"] == "lchp_r" and row["split"] == "test"]
    assert is_right == [row["top1"] == "1" for row in wanted]
    assert predicted(capsys, trained.run[:8], images, *out) == by_run
    assert predicted(capsys, "tiny", images, *out) == by_run
    assert predicted(capsys, str(trained.stage.path), images) == by_run
    assert predicted(capsys, str(exported), images) == by_run


def test_study_is_found_beside_a_folder_of_pictures_with_its_name(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained.images, "tiny")
    out = ["--output", str(trained.output)]
    assert len(predicted(capsys, "tiny", "tiny", *out)) == 16
    assert command(["export", "tiny", "bird.safetensors", *out]) == 0
    assert command(["study", "archive", "tiny", "tiny.zip", *out]) == 0
    assert command(["compare", "tiny", "tiny", *out]) == 0
    assert len(results("tiny", trained.output)) > 0
    capsys.readouterr()
    assert command(["predict", "tiny", "tiny"]) == 2
    looked = f"{tmp_path / 'tiny'}: holds no finished trial, and {tmp_path / 'analysis/tiny'} no study"
    assert looked in capsys.readouterr().err
    assert command(["report", "tiny"]) == 2
    assert f"no report.json in {tmp_path / 'tiny'} and {tmp_path / 'analysis/tiny'}" in capsys.readouterr().err


def test_predict_of_an_initialization_gives_the_boxes_of_lchp_i(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained.output / ".store" / str(trained.entry.initialization)
    found = predicted(capsys, str(folder), str(trained.images))
    assert [[row[name] for name in CORNERS] for row in found] == boxes_of(StageFolder(folder), "lchp_i")


def test_predict_formats_say_the_same(trained: Trained, exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = str(trained.images)
    found = predicted(capsys, str(exported), images)
    assert command(["predict", str(exported), images, "--format", "json"]) == 0
    as_json = json.loads(capsys.readouterr().out)
    assert [{key: str(value) for key, value in one.items()} for one in as_json] == found
    assert command(["predict", str(exported), images, "--format", "coco"]) == 0
    coco = json.loads(capsys.readouterr().out)
    one, box = coco["annotations"][0], as_json[0]
    assert one["bbox"] == [box["x1"], box["y1"], box["x2"] - box["x1"], box["y2"] - box["y1"]]
    names = {category["id"]: category["name"] for category in coco["categories"]}
    assert [names[one["category_id"]] for one in coco["annotations"]] == [row["class"] for row in found]
    assert (coco["images"][0]["width"], len(coco["images"]), len(names)) == (40, 16, 8)
    assert command(["predict", str(exported), images]) == 0
    head, line, *_ = capsys.readouterr().out.splitlines()
    assert head.split() == ["class", "confidence", "x1", "y1", "x2", "y2", "image"]
    assert line.split()[:3] == [found[0]["class"], f"{box['confidence']:.3f}", f"{box['x1']:.1f}"]


def test_predictions_leave_the_filters_of_warnings_alone(tmp_path: Path) -> None:
    """What is changed in a generator is changed for everybody as long as it is not at its end."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    found = Found((0, 0, 4, 4), 0, 1.0, 4, 4)
    localizer: Any = SimpleNamespace(
        batch_size=1, resized=lambda pixels: pixels, look=lambda seen: [found], model=SimpleNamespace(named=str)
    )
    before = list(warnings.filters)
    coming = predictions(localizer, [str(tmp_path / "a.png")] * 2, False, Unread([]), print)
    assert next(coming).found == found
    assert warnings.filters == before
    assert len(list(coming)) == 1


def test_written_csv_of_a_name_with_a_line_break_is_read_as_it_was() -> None:
    model: Any = None
    one = Prediction('a\n"b.png', Found((0, 0, 4, 4), 0, 1.0, 4, 4), "owl")
    (read,) = rows("\n".join(written([one], "csv", model)))
    assert (read["path"], read["class"], read["height"]) == (one.image, "owl", "4")


@pytest.fixture
def strange(tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with one picture in every way in which people have them, and what is none."""
    monkeypatch.chdir(tmp_path)
    with Image.open(trained.images / "ringed-0/00000.png") as image:
        image.convert("L").save("grey.png")
        image.convert("RGBA").save("alpha.png")
        image.convert("P").save("palette.gif")
        image.convert("CMYK").save("cmyk.jpg")
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) << 8).save("deep.png")
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        image.resize((40, 20)).save("turned.jpg", exif=exif)
        image.resize((3000, 2)).save("wide.bmp")
    Path("empty.png").touch()
    Path("text.png").write_text("no image", encoding="utf-8")
    Path("cut.png").write_bytes((trained.images / "ringed-0/00000.png").read_bytes()[:-30])
    Path("huge.png").write_bytes(_huge_png())
    return tmp_path


def _huge_png() -> bytes:
    """The header of a picture of ten thousand million pixels."""
    import struct
    import zlib

    head = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    end = b"IEND"
    chunks = (struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in (head, end))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_predict_names_and_leaves_out_what_cannot_be_read(
    strange: Path, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["predict", str(exported), ".", "--format", "csv", "--draw", "drawn"]) == 1
    told = capsys.readouterr()
    found = rows(told.out)
    read = {"grey.png", "alpha.png", "palette.gif", "cmyk.jpg", "deep.png", "turned.jpg", "wide.bmp"}
    assert {Path(row["path"]).name for row in found} == read
    for name in ("empty.png", "text.png", "cut.png", "huge.png"):
        assert f"left out: {name}: the image does not decode" in told.err
    assert "4 of 11 images cannot be read" in told.err
    assert "1 images are stored turned (EXIF)" in told.err
    for row in found:
        x1, y1, x2, y2 = (float(row[name]) for name in CORNERS)
        assert 0 <= x1 <= x2 <= int(row["width"])
        assert 0 <= y1 <= y2 <= int(row["height"])
        with Image.open(Path("drawn") / Path(row["path"]).with_suffix(".jpg").name) as picture:
            assert picture.format == "JPEG"
    assert len(list(Path("drawn").iterdir())) == len(read)


def test_predict_exif_looks_at_the_turned_picture(
    strange: Path, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (stored,) = predicted(capsys, str(exported), "turned.jpg")
    (upright,) = predicted(capsys, str(exported), "turned.jpg", "--exif")
    assert (stored["width"], stored["height"]) == ("40", "20") == (upright["height"], upright["width"])
    with Image.open("turned.jpg") as image:
        ImageOps.exif_transpose(image).save("upright.png")
    (seen,) = predicted(capsys, str(exported), "upright.png")
    assert float(seen["x1"]) == pytest.approx(float(upright["x1"]), abs=2)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_is_what_pillow_makes_of_an_orientation(tmp_path: Path, orientation: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 5, 3), np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(pixels).save(tmp_path / "one.webp", lossless=True, exif=exif)
    with Image.open(tmp_path / "one.webp") as image:
        wanted = torch.from_numpy(np.array(ImageOps.exif_transpose(image))).permute(2, 0, 1)
    assert torch.equal(turned(torch.from_numpy(pixels).permute(2, 0, 1), orientation), wanted)
    found, is_turned = upright(tmp_path / "one.webp", True)
    assert torch.equal(found, wanted)
    assert is_turned == (orientation != 1)


def test_predict_without_names_of_classes_says_so_and_gives_indices(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained.output / ".store/trial", tmp_path / "trial")
    shutil.copytree(trained.output / ".store/initialization", tmp_path / "initialization")
    (found,) = predicted(capsys, str(tmp_path / trained.entry.folder), str(trained.images / "ringed-0/00000.png"))
    assert found["class"] == found["label"]
    shutil.rmtree(tmp_path / "initialization")
    assert command(["predict", str(tmp_path / trained.entry.folder), str(trained.images)]) == 2
    assert "the initialization that it went on from" in capsys.readouterr().err


def test_predict_reads_a_list(
    trained: Trained, exported: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = str(trained.images / "ringed-0/00000.png")
    for text in (f"{one}\n{one}\n", f"{one}\0", f"\ufeff{one}\r\n"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        assert [row["path"] for row in predicted(capsys, str(exported), "-")] == [one]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert command(["predict", str(exported), "-"]) == 2
    assert "standard input names no file" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(one.encode("utf-16"))))
    assert command(["predict", str(exported), "-"]) == 2
    assert "-: the list on standard input is text in UTF-16" in capsys.readouterr().err


@pytest.mark.parametrize("network", ["regressor", "classifier"])
def test_predict_by_weights_that_are_not_finite_is_refused_by_name(
    network: str, trained: Trained, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = read_file(exported)
    weights = {name: tensor.clone() for name, tensor in getattr(model, network).items()}
    weights["head.weight" if network == "classifier" else next(iter(weights))].view(-1)[0] = torch.nan
    write_file(replace(model, **{network: weights}), tmp_path / "nan.safetensors")
    image = str(next(trained.images.rglob("*.png")))
    assert command(["predict", str(tmp_path / "nan.safetensors"), image, "--format", "json"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "nan.safetensors: the weight " in told.err
    assert "holds numbers that are not finite: train or export it again" in told.err


@pytest.mark.parametrize(
    "values", [{"crop": 41}, {"evaluation": "ten_crop"}, {"precision": "fp8"}, {"resize": 0}, {"batch_size": True}]
)
def test_read_file_of_a_design_that_nobody_knows_is_refused(
    values: dict[str, object], exported: Path, tmp_path: Path
) -> None:
    model = read_file(exported)
    write_file(replace(model, design=replace(model.design, **values)), tmp_path / "new.safetensors")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"new\.safetensors: does not say what a model of lchp says"):
        read_file(tmp_path / "new.safetensors")


def test_predict_draws_over_its_own_pictures_and_over_no_other(
    trained: Trained, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["predict", str(exported), str(trained.images / "ringed-0/00000.png"), "--draw", str(tmp_path / "drawn")]
    assert [command(line) for _ in range(2)] == [0, 0]
    own = tmp_path / "drawn/00000.jpg"
    Image.new("RGB", (4, 4)).save(own)
    before = own.read_bytes()
    capsys.readouterr()
    assert command(line) == 2
    assert "00000.jpg is there, and lchp did not draw it: give another folder" in capsys.readouterr().err
    assert own.read_bytes() == before


def test_export_holds_classes_view_and_boxes_and_no_path(exported: Path, trained: Trained) -> None:
    model = read_file(exported)
    assert model.classes is not None
    assert model.classes[3] == "ringed-3"
    assert (model.design.resize, model.design.crop, model.method) == (40, 32, "lchp_r")
    assert str(trained.output.parent).encode() not in exported.read_bytes()
    assert model.origin["dataset"] == "synthetic"


def test_export_again_writes_the_same_bytes_and_spares_other_files(
    trained: Trained, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again, words = tmp_path / "b.safetensors", ["--output", str(trained.output)]
    for _ in range(2):
        assert command(["export", trained.run, str(again), *words]) == 0
        assert again.read_bytes() == exported.read_bytes()
    again.write_bytes(b"somebody's")
    assert command(["export", trained.run, str(again), *words]) == 2
    assert again.read_bytes() == b"somebody's"
    assert command(["export", trained.run, str(tmp_path / "model.onnx"), *words]) == 2
    assert "a name that ends in .safetensors" in capsys.readouterr().err


@pytest.mark.parametrize("place", [0, 5, 40, 2000, -1])
def test_read_file_any_changed_byte_is_told(exported: Path, tmp_path: Path, place: int) -> None:
    data = bytearray(exported.read_bytes())
    data[place] ^= 1
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(data)
    with pytest.raises(ValueError, match=r"damaged\.safetensors: .*export it again"):
        read_file(damaged)


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_read_file_cut_is_told(exported: Path, tmp_path: Path, length: int) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(exported.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"cut\.safetensors: .*export it again"):
        read_file(cut)
