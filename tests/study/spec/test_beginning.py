from __future__ import annotations

import os
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from lchp.errors import Refusal
from lchp.study.spec.beginning import begin
from lchp.study.spec.load import load_dataset, load_study
from lchp.study.spec.presence import require_readable_weights
from lchp.study.spec.proposal import Counted, name_of, proposed
from tests.data.test_collections import coco, draw, write


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `birds` of the working folder with ten pictures of each of two classes."""
    monkeypatch.chdir(tmp_path)
    paths = [f"{label}/{number}.png" for label in ("owl", "wren") for number in range(10)]
    draw(Path("birds"), *paths, size=(300, 260))
    return Path("birds")


def begun(given: Path | None, **more: object) -> list[str]:
    arguments: dict[str, object] = {
        "kind": None, "masks": None, "name": None, "study": None, "weights": None, "share": 0.2,
    }  # fmt: skip
    return list(begin(given, **{**arguments, **more}).told)  # type: ignore[arg-type]


def files(folder: Path) -> list[str]:
    return sorted(
        str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file() and file.suffix != ".png"
    )


def test_begin_writes_a_table_and_a_study_that_loads(pictures: Path) -> None:
    told = begun(pictures)
    assert files(Path()) == ["birds.yaml", "birds/images.csv"]
    study = load_study(Path("birds.yaml"))
    assert (study.name, str(study.base.dataset.path)) == ("birds", "birds/images.csv")  # type: ignore[union-attr]
    assert study.base.split.val_per_class == 0
    assert study.tables[0].metrics == ("top1_cls",)
    assert study.base.initialization.epochs == 60
    assert told[0] == "20 pictures by class folders"
    assert "16 training and 4 test images of 2 classes, none with true boxes" in told
    assert "classes, with their images: owl 10, wren 10" in told
    text = Path("birds.yaml").read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=")
    assert "# - split.val_per_class: without true boxes there is nothing to choose by" in text


def test_begin_with_a_weight_file_names_it_wherever_weights_are_asked_for(pictures: Path) -> None:
    with zipfile.ZipFile("net.pth", "w") as archive:
        archive.writestr("net/data.pkl", b"")
    begun(pictures, weights=Path("net.pth"))
    base = load_study(Path("birds.yaml"), must_exist=True).base
    require_readable_weights(base)
    for weights in (base.weights.classifier, base.weights.regressor, base.pseudo_boxes.weights):
        assert str(weights.file) == "net.pth"  # type: ignore[union-attr]
    write(Path(), **{"net.pth": "a page"})
    with pytest.raises(Refusal, match=r"birds\.yaml:\d+: weights\.classifier\.file = net\.pth: is text that begins"):
        load_dataset(Path("birds.yaml"))


def test_begin_takes_a_table_as_it_is(pictures: Path) -> None:
    lines = [f"owl/{number}.png,owl,{split}" for number, split in enumerate(("train", "val", "test"))]
    write(pictures, **{"mine.csv": "\n".join(["path,label,split", *lines]) + "\n"})
    assert begun(pictures)[0] == "the table birds/mine.csv is taken as it is"
    assert files(Path()) == ["birds.yaml", "birds/mine.csv"]
    Path("birds.yaml").unlink()
    told = begun(pictures / "mine.csv")
    assert "  split.val_per_class: the table has a val split of its own, so that none is drawn" in told
    assert any(line.startswith("1 training, 1 val and 1 test images of 1 classes, ") for line in told)


@pytest.mark.parametrize(
    ("given", "also", "message"),
    [
        (None, "analysis/quickstart/a.png", "all pictures are in one class folder, birds, and a study needs two"),
        (None, "unseen/a.png", r"birds/owl/0\.png does not lie right in a class folder of the working folder: give"),
        (Path(), "analysis/quickstart/a.png", "all pictures are in one class folder, birds"),
    ],
)
def test_begin_above_the_class_folders_is_refused(given: Path | None, also: str, message: str, pictures: Path) -> None:
    draw(Path(), also)
    with pytest.raises(ValueError, match=message):
        begun(given)
    assert files(Path()) == []


def test_begin_of_a_table_of_one_class_warns(pictures: Path) -> None:
    write(pictures, **{"mine.csv": "path,label,split\nowl/0.png,owl,train\nowl/1.png,owl,test\n"})
    assert "warning: one class alone teaches a classifier nothing: give pictures of a second class, too" in begun(
        pictures
    )


def test_begin_overwrites_nothing(pictures: Path) -> None:
    write(Path(), **{"birds.yaml": "mine"})
    with pytest.raises(ValueError, match=r"^birds\.yaml: is there already: give another with --study FILE"):
        begun(pictures)
    assert files(Path()) == ["birds.yaml"]
    write(pictures, **{"images.csv": "mine"})
    with pytest.raises(ValueError, match=r"birds/images\.csv: is there already"):
        begun(pictures, study=Path("other.yaml"))
    assert files(Path()) == ["birds.yaml", "birds/images.csv"]
    Path("linked.yaml").symlink_to("gone.yaml")
    with pytest.raises(ValueError, match=r"^linked\.yaml: is there already"):
        begun(pictures, study=Path("linked.yaml"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"name": "a b"}, "--name a b: must be letters, digits"),
        ({"name": "Paper"}, "--name Paper: the folder of that name holds the paper's numbers"),
        ({"weights": Path("gone.pth")}, "--weights gone.pth: does not exist"),
        ({"weights": Path(__file__)}, r"--weights .*: is text that begins 'from __future__"),
        ({"study": Path("birds/owl")}, "birds/owl: is there already"),
        ({"kind": "voc"}, "found no XML files of Pascal VOC"),
    ],
)
def test_begin_that_is_refused_leaves_nothing(more: dict[str, object], message: str, pictures: Path) -> None:
    with pytest.raises(ValueError, match=message):
        begun(pictures, **more)
    assert files(Path()) == []


def test_begin_of_classes_without_a_picture_to_spare_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    draw(tmp_path / "birds", "owl/0.png", "wren/0.png")
    with pytest.raises(ValueError, match=r"birds: no class has two pictures, and a test split needs one"):
        begun(tmp_path / "birds", study=tmp_path / "birds.yaml")
    assert files(tmp_path) == []


def test_begin_of_a_table_with_other_commas_says_its_first_line(pictures: Path) -> None:
    write(pictures, **{"mine.csv": "path;label\nowl/0.png;owl\n"})
    with pytest.raises(ValueError, match=r"birds/mine\.csv: is no table: its first line, 'path;label', does not name"):
        begun(pictures / "mine.csv")


def test_begin_of_a_broken_picture_is_refused_and_leaves_nothing(pictures: Path) -> None:
    (pictures / "owl" / "0.png").write_bytes(b"no picture")
    (pictures / "wren/3.png").write_text("this neither", encoding="utf-8")
    with pytest.raises(ValueError, match=r"owl/0\.png: this is no image that is known.*\n.*wren/3\.png: this is no"):
        begun(pictures)
    assert files(Path()) == []


def test_begin_in_a_folder_whose_name_is_no_text_is_refused_from_outside(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pictures.rename(os.fsdecode(b"\xff"))
    with pytest.raises(ValueError, match=r"birds\.yaml: would name .* by a path that is no text .*begin inside it"):
        begun(folder, name="birds")
    assert files(Path()) == []
    monkeypatch.chdir(folder)
    begun(Path(), name="birds")
    assert files(Path()) == ["birds.yaml", "images.csv"]


def test_begin_with_boxes_holds_val_out(pictures: Path) -> None:
    images = {number: f"{label}/{number % 10}.png" for number, label in enumerate(["owl"] * 10 + ["wren"] * 10)}
    boxes = [(number, number // 10, [1.0, 2.0, 30.0, 40.0]) for number in images]
    write(pictures, **{"boxes.json": coco({0: "owl", 1: "wren"}, images, boxes)})
    told = begun(pictures)
    assert "16 training and 4 test images of 2 classes, 20 with true boxes" in told
    assert load_study(Path("birds.yaml")).base.split.val_per_class == 1


FEW = Counted(train=40, test=10, classes=4, smallest=10, own_val=False, side=300, boxes=50)


@pytest.mark.parametrize(
    ("counted", "expected"),
    [
        (FEW, {"view.crop": 224, "split.val_per_class": 2, "initialization.epochs": 60}),
        (replace(FEW, train=440, smallest=22), {"split.val_per_class": 4, "initialization.epochs": 13}),
        (replace(FEW, smallest=3), {"split.val_per_class": 0}),
        (replace(FEW, side=222), {"view.crop": 224}),
        (replace(FEW, side=170), {"view.crop": 160, "pseudo_boxes.further_sizes": [224]}),
        (replace(FEW, side=64), {"view.crop": 96, "pseudo_boxes.size": 160, "pseudo_boxes.further_sizes": [224]}),
        (replace(FEW, train=4, smallest=1), {"initialization.batch_size": 4, "initialization.epochs": 60}),
        (replace(FEW, train=10_000, smallest=900), {"view.crop": 224, "split.val_per_class": 8}),
    ],
)
def test_proposed_values_go_with_the_pictures(counted: Counted, expected: dict[str, object]) -> None:
    preset, choices = proposed(counted, None)
    values = {key: value for choice in choices for key, value in choice.values.items()}
    assert {key: values[key] for key in expected} == expected
    assert preset == ("cub" if counted.train == 10_000 else "small")
    assert all(len(choice.why.split()) > 5 for choice in choices)


def test_name_of_a_folder_is_one_that_a_study_may_have(tmp_path: Path) -> None:
    for folder, name in (
        ("my birds!", "my-birds"),
        ("paper", "my-paper"),
        ("...", "my-pictures"),
        ("äö", "my-pictures"),
    ):
        assert name_of(tmp_path / folder) == name


def test_begin_does_not_write_the_study_over_its_table(pictures: Path) -> None:
    with pytest.raises(ValueError, match=r"--study .*images\.csv: is where the table of the pictures is written: name"):
        begun(pictures, study=pictures / ".." / "birds" / "images.csv")
    assert files(Path()) == []


def test_begin_of_an_archive_asks_for_what_it_holds(pictures: Path) -> None:
    with zipfile.ZipFile("birds.zip", "w") as archive:
        archive.write(pictures / "owl/0.png")
    with pytest.raises(ValueError, match=r"birds\.zip: is an archive: unpack it, and give the folder that it holds"):
        begun(Path("birds.zip"))


def test_begin_warns_of_pictures_that_are_not_of_the_size_their_annotations_say(pictures: Path) -> None:
    names = {number: f"owl/{number}.png" for number in range(10)}
    boxes = [(number, 1 + number % 2, [0.0, 0.0, 50.0, 50.0]) for number in names]
    text = coco({1: "owl", 2: "wren"}, names, boxes)
    write(pictures, **{"a.json": text.replace('"file_name"', '"width": 600, "height": 520, "file_name"')})
    (line,) = (line for line in begun(pictures) if line.startswith("warning: "))
    assert "owl/0.png is 300 x 260, and said to be 600 x 520): their boxes count in the pixels that are there" in line


def test_begin_warns_of_classes_that_are_perhaps_one(pictures: Path) -> None:
    draw(pictures, *(f"Owl/{number}.png" for number in range(3)), size=(300, 260))
    assert any("classes that differ in case" in line and "'Owl', 'owl'" in line for line in begun(pictures))


def test_begin_that_is_refused_says_that_its_table_is_not_there(pictures: Path) -> None:
    draw(pictures / "masks", *(f"{label}/{number}.png" for label in ("owl", "wren") for number in range(10)))
    with pytest.raises(
        ValueError, match=r"images\.csv, line 2, .*; images\.csv is what would be written: correct the pic"
    ):
        begun(pictures, masks=pictures / "masks")
    assert files(Path()) == []


def test_begin_warns_of_boxes_that_are_none(pictures: Path) -> None:
    names = {number: f"owl/{number}.png" for number in range(10)}
    boxes = [(number, 1 + number % 2, [400.0 * (number == 3), 0.0, 50.0, 50.0]) for number in names]
    write(pictures, **{"a.json": coco({1: "owl", 2: "wren"}, names, boxes)})
    (line,) = (line for line in begun(pictures) if line.startswith("warning: "))
    assert line.startswith("warning: owl/3.png: the box (400, 0, 450, 50) lies outside the 300 x 260 image: no study")


def test_begin_warns_of_a_box_without_end(pictures: Path) -> None:
    lines = [
        f"{label}/{number}.png,{label},{'test' if number > 7 else 'train'},0,0,{'inf' if number == 3 else 20},20"
        for label in ("owl", "wren") for number in range(10)
    ]  # fmt: skip
    write(pictures, **{"mine.csv": "\n".join(["path,label,split,x1,y1,x2,y2", *lines])})
    (line,) = (line for line in begun(pictures) if line.startswith("warning: "))
    assert line.startswith("warning: owl/3.png: the box (0, 0, inf, 20) is not finite: no study trains with")


def test_begin_passes_over_a_picture_that_the_sample_of_sizes_misses(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lchp.study.spec.beginning._LOOKED_AT", 10)  # of 20 every second, of 10 with boxes each
    paths = [f"{label}/{number}.png" for label in ("owl", "wren") for number in range(10)]
    lines = [
        f"{path},{path.partition('/')[0]},{'train' if place < 16 else 'test'},{'0,0,20,20' if place % 2 else ',,,'}"
        for place, path in enumerate(paths)
    ]
    write(pictures, **{"mine.csv": "\n".join(["path,label,split,x1,y1,x2,y2", *lines]), paths[1]: "no picture"})
    assert any("10 with true boxes" in line for line in begun(pictures))
    assert files(Path()) == ["birds.yaml", "birds/mine.csv"]


def test_begin_that_fails_over_what_it_tells_leaves_nothing_written(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise OSError("the share is gone")

    with monkeypatch.context() as patch:
        patch.setattr("lchp.study.spec.beginning._of_bad_boxes", failing)
        with pytest.raises(OSError, match="share is gone"):
            begun(pictures)
    assert files(Path()) == []
    assert begun(pictures)
