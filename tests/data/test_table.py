"""People's own CSV files: several boxes, missing boxes, and refusals that name line, column and remedy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from lchp.data.config import SplitConfig
from lchp.data.digest import dataset_digest
from lchp.data.records import ImageRecord, PixelBoxes
from lchp.data.splits import split
from lchp.data.table import read, read_boxes
from tests.data.layouts import draw_table

HEADER = "path,label,split,x1,y1,x2,y2"


def table(folder: Path, *lines: str, header: str = HEADER) -> Path:
    for name in ("a.png", "b.png", "c d.png"):
        (folder / name).write_bytes(b"")
    (folder / "own.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return folder / "own.csv"


def boxes_of(file: Path) -> PixelBoxes | None:
    dataset = read(file)
    return read_boxes(dataset, dataset.images)


def test_table_several_rows_are_several_boxes(tmp_path: Path) -> None:
    file = table(tmp_path, "a.png,x,train,1,2,3,4", "b.png,y,test,0,0,5,5.5", "a.png,x,train,5,6,7,8")
    dataset = read(file)
    assert dataset.train == (ImageRecord("a.png", 0),)
    assert dataset.test == (ImageRecord("b.png", 1),)
    assert (dataset.name, dataset.classes) == ("own", ("x", "y"))
    assert boxes_of(file) == {"a.png": [(1, 2, 3, 4), (5, 6, 7, 8)], "b.png": [(0, 0, 5, 5.5)]}


def test_table_empty_box_cells_mean_no_box(tmp_path: Path) -> None:
    assert boxes_of(table(tmp_path, "a.png,x,train,,,,", "b.png,y,test,0,0,5,5")) == {"b.png": [(0, 0, 5, 5)]}


def test_table_without_box_columns_has_no_boxes_at_all(tmp_path: Path) -> None:
    file = table(tmp_path, "a.png,x,train", "b.png,y,test", header="path,label,split")
    assert len(read(file).train) == 1
    assert boxes_of(file) is None


def test_table_other_columns_order_quotes_and_byte_order_mark_are_accepted(tmp_path: Path) -> None:
    file = table(tmp_path, 'test,me,x,"c d.png"', "train,you,x,./a.png", header="\ufeff\ufeffsplit,index0,label,path")
    dataset = read(file)
    assert (dataset.train[0].path, dataset.test[0].path) == ("a.png", "c d.png")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("../a.png,x,train,,,,", r"line 3, column path: '../a.png' leaves the table's folder: give a path relative"),
        ("/etc/a.png,x,train,,,,", r"line 3, column path: '/etc/a.png' leaves the table's folder"),
        ("http://x/a.png,x,train,,,,", r"line 3, column path: 'http://x/a.png' is an address: fetch the file"),
        ('"b\n.png",x,train,,,,', r"line 4, column path: 'b\\n.png' holds a control character: rename the file"),
        ("b.png,,train,,,,", r"line 3, column label: '' is empty: fill it"),
        ("b.png,x,vall,,,,", r"line 3, column split: 'vall' is none of train, val, test: correct it"),
        ("b.png,x,validation,,,,", r"line 3, column split: 'validation' is none of train, val, test: write it 'val'"),
        ("b.png,x,Train,,,,", r"line 3, column split: 'Train' is none of .*: write it 'train'"),
        ("b.png,x,train,1,5,2,0,5,0,6,0", r"line 3: 11 cells where .* 7 columns \(a decimal comma\? write 1\.5\)"),
        ('b.png,"x,train,,,,', r"line \d: this is no CSV \(.*\): correct the line"),
        ("a.png,y,train,5,6,7,8", r"line 3, column label: 'y' where a.png has 'x' in line 2: make them agree"),
        ("a.png,x,test,5,6,7,8", r"line 3, column split: 'test' where a.png has 'train' in line 2"),
        ("./a.png,x,train,1,2,3,4", r"line 3, column path: 'a.png' repeats line 2: remove one"),
        ("b.png,x,train,1,2,3", r"line 3: 6 cells where the first line names 7 columns"),
    ],
)
def test_table_bad_row_is_refused_with_line_column_and_remedy(line: str, message: str, tmp_path: Path) -> None:
    file = table(tmp_path, "a.png,x,train,1,2,3,4", line)
    with pytest.raises(ValueError, match=rf"own\.csv, {message}"):
        read(file)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ("1,2,three,4", r"column x2: 'three' is not a number: give pixels, or leave all four"),
        ("1,,3,4", r"column y1: '' is not a number"),
        ('1,2,"3,5",4', r"column x2: '3,5' is not a number: give pixels with a point instead of the comma"),
    ],
)
def test_table_bad_box_is_refused_but_labels_are_read(cells: str, message: str, tmp_path: Path) -> None:
    file = table(tmp_path, f"a.png,x,train,{cells}", "b.png,x,test,,,,")
    assert len(read(file).train) == 1
    with pytest.raises(ValueError, match=rf"own\.csv, line 2, {message}"):
        boxes_of(file)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("path,label", "column split is missing .found: path, label.: the first line names"),
        ("path,label,split,x1,y1", "columns x2 and y2 are missing"),
        ("path,label,split,X1,Y1,X2,Y2", "column 'X1' is not known: write it 'x1'"),
        ("path,label,split,label", "column label is there twice"),
        ("path,label,split, label", "column label is there twice"),
        ("path;label;split;x1;y1;x2;y2", "columns are separated by ';': save the table with commas"),
        ("\ufeffPath; Label ;split", "columns are separated by ';': save the table with commas"),
        ("path\tlabel\tsplit", r"columns are separated by '\\t': save the table with commas"),
        ("path label split x1 y1 x2 y2", "columns are separated by ' ': save the table with commas"),
        ("path,label,split,x,y,w,h", "columns x, y, w, h are not read: give corners, x1 = x, y1 = y, x2 = x . w, y2"),
        ("path,label,split,X,Y,Width,Height", "columns x, y, width, height are not read: give corners"),
        ("path,label,split,xmin,ymin,xmax,ymax", "columns xmin, ymin, xmax, ymax are not read: call them x1, y1, x2"),
        ("path,label,split,bbox", "columns bbox are not read: boxes stand in x1, y1, x2, y2"),
        ("path,label,split,bbox_x1,bbox_y1", "columns bbox_x1, bbox_y1 are not read: boxes stand in x1, y1, x2, y2"),
        ("", "columns path, label and split are missing .found: nothing."),
    ],
)
def test_table_bad_header_is_refused(header: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"own\.csv, line 1: {message}"):
        read(table(tmp_path, header=header))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04\0\0", "is an archive, or a workbook of a spreadsheet, and no text: save"),
        ("path,label,split\n".encode("utf-32"), "line 1: is text in UTF-32: save the file in UTF-8"),
        ("path,label,split\n".encode("utf-16-le"), "line 1: is text in UTF-16: save the file in UTF-8"),
        ("path,label,split\n".encode("utf-16-be"), "line 1: is text in UTF-16: save the file in UTF-8"),
    ],
)
def test_table_that_is_something_else_is_told_as_what_it_is(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_bytes(data)
    with pytest.raises(ValueError, match=rf"own\.csv(, |: ){message}"):
        read(tmp_path / "own.csv")


def test_table_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_bytes(b"path,label,split\n\xff\xfe\x00,1,2\n")
    with pytest.raises(ValueError, match=r"own\.csv, line 2: the byte 0xff is not UTF-8: save the file in UTF-8"):
        read(tmp_path / "own.csv")


def test_drawn_table_gives_a_box_for_every_image(tmp_path: Path) -> None:
    boxes = boxes_of(draw_table(tmp_path, classes=2, train=2, test=1))
    assert boxes is not None
    assert len(boxes) == 6


def test_table_spaces_around_names_labels_and_line_ends_do_not_count(tmp_path: Path) -> None:
    file = table(tmp_path, "a.png , x,train ", "b.png,x ,test\r", header=" path, label ,split")
    dataset = read(file)
    assert (dataset.classes, dataset.train, dataset.test) == (
        ("x",),
        (ImageRecord("a.png", 0),),
        (ImageRecord("b.png", 0),),
    )


def test_table_quoted_line_end_counts_as_a_line(tmp_path: Path) -> None:
    file = table(tmp_path, 'a.png,x,train,"a\nnote"', "b.png,x,nowhere,", header="path,label,split,remark")
    with pytest.raises(ValueError, match="line 4, column split: 'nowhere'"):
        read(file)


def test_table_orientation_counts_in_any_case(tmp_path: Path) -> None:
    file = table(tmp_path, "a.png,x,train,EXIF", "b.png,x,test,", header="path,label,split,orientation")
    assert read(file).turned == {"a.png"}


def test_table_orientation_other_than_exif_is_refused(tmp_path: Path) -> None:
    file = table(tmp_path, "a.png,x,train,6", header="path,label,split,orientation")
    with pytest.raises(ValueError, match=r"line 2, column orientation: '6' is not known: write exif where the boxes"):
        read(file)


def test_table_orientation_must_agree_in_the_rows_of_an_image(tmp_path: Path) -> None:
    file = table(tmp_path, "a.png,x,train,1,2,3,4,exif", "a.png,x,train,2,2,3,4,", header=f"{HEADER},orientation")
    with pytest.raises(ValueError, match=r"line 3, column orientation: '' where a.png has 'exif' in line 2"):
        read(file)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_table_boxes_on_the_turned_picture_are_read_in_stored_pixels(orientation: int, tmp_path: Path) -> None:
    """Against Pillow's own turning of the picture; an image whose row does not say so keeps its box."""
    image = Image.new("L", (30, 20))
    image.paste(255, (3, 4, 11, 9))
    exif = image.getexif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    image.save(tmp_path / "b.png", exif=exif)
    with Image.open(tmp_path / "a.png") as stored:
        seen = ImageOps.exif_transpose(stored).getbbox()
    assert seen is not None
    (tmp_path / "own.csv").write_text(
        f"{HEADER},orientation\na.png,x,train,{','.join(map(str, seen))},exif\nb.png,x,test,1,2,3,4,\n"
    )
    assert read(tmp_path / "own.csv").turned == {"a.png"}
    assert boxes_of(tmp_path / "own.csv") == {"a.png": [(3, 4, 11, 9)], "b.png": [(1, 2, 3, 4)]}


def test_table_rows_of_val_are_held_out_and_no_other_is_drawn(tmp_path: Path) -> None:
    file = table(tmp_path, "a.png,x,train", "b.png,x,val", "c d.png,x,test", header="path,label,split")
    dataset = read(file)
    assert dataset.held_out == {"b.png"}
    found = split(dataset, SplitConfig(val_per_class=5))
    assert [[record.path for record in part] for part in (found.train, found.val, found.test)] == [
        ["a.png"],
        ["b.png"],
        ["c d.png"],
    ]


def test_table_class_that_val_leaves_no_training_image_is_refused(tmp_path: Path) -> None:
    file = table(tmp_path, "a.png,x,train", "b.png,y,val", "c d.png,x,test", header="path,label,split")
    with pytest.raises(ValueError, match=r"no training image is left in class y, because the split of the others is"):
        split(read(file), SplitConfig())


def test_table_digest_tells_val_from_train_and_stays_that_of_before_without_val(tmp_path: Path) -> None:
    hashes = np.repeat(np.arange(3, dtype=np.uint8)[:, None], 32, 1)
    digests = []
    for word in ("train", "val"):
        file = table(tmp_path, "a.png,x,train", f"b.png,x,{word}", "c d.png,x,test", header="path,label,split")
        digests.append(dataset_digest(read(file), hashes))
    assert digests[0].total == "36d8c141e8fe03e53d89e44d99acd4bdc88a4ce2ef8355338db0dfa84e0d8e37"
    assert digests[0].total != digests[1].total
    assert {path for path in digests[0].files if digests[0].files[path] != digests[1].files[path]} == {"b.png"}


def test_table_list_of_classes_orders_them_and_takes_names_and_indices(tmp_path: Path) -> None:
    file = table(tmp_path, "a.png,1,train", "b.png,wren,test", header="path,label,split")
    (tmp_path / "own.classes.txt").write_text("wren\nowl\n", encoding="utf-8")
    dataset = read(file)
    assert dataset.classes == ("wren", "owl")
    assert (dataset.train[0].label, dataset.test[0].label) == (1, 0)


@pytest.mark.parametrize(
    ("classes", "label", "message"),
    [
        ("wren\nowl\n", "2", r"own\.csv, line 2, column label: '2' is neither a class of own.classes.txt nor an index"),
        ("wren\nowl\n", "Owl", r"column label: 'Owl' is neither a class of own.classes.txt nor an index from 0 to 1"),
        ("owl\nowl\n", "owl", r"own\.classes\.txt, line 2: the class 'owl' is there twice"),
        ("owl\n7\n", "owl", r"own\.classes\.txt, line 2: the class '7' looks like an index: name it otherwise"),
    ],
)
def test_table_list_of_classes_that_does_not_fit_is_refused(
    classes: str, label: str, message: str, tmp_path: Path
) -> None:
    file = table(tmp_path, f"a.png,{label},train", header="path,label,split")
    (tmp_path / "own.classes.txt").write_text(classes, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read(file)


def pictures(folder: Path, orientation: int = 1) -> None:
    """`a.png`, 40 x 20 as stored."""
    image = Image.new("L", (40, 20))
    exif = image.getexif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(folder / "a.png", exif=exif)


def test_table_boxes_in_fractions_are_parts_of_the_image(tmp_path: Path) -> None:
    file = table(
        tmp_path, "a.png,x,train,0.25,0.5,0.75,1,Fractions", "a.png,x,train,1,2,3,4,", header=f"{HEADER},units"
    )
    pictures(tmp_path)
    assert boxes_of(file) == {"a.png": [(10, 10, 30, 20), (1, 2, 3, 4)]}


def test_table_boxes_in_fractions_of_the_turned_picture_are_read_in_stored_pixels(tmp_path: Path) -> None:
    row = "a.png,x,train,0,0,0.5,0.25,fractions,exif"
    file = table(tmp_path, row, header=f"{HEADER},units,orientation")
    pictures(tmp_path, 6)
    # Seen as 20 x 40, turned clockwise: its upper left is the stored lower left.
    assert boxes_of(file) == {"a.png": [(0, 10, 10, 20)]}


@pytest.mark.parametrize("cell", ["1_000", "\u0661"])
def test_table_corner_that_only_python_takes_for_a_number_is_refused(cell: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"own\.csv, line 2, column x1: .* is not a number: give pixels, or leave"):
        boxes_of(table(tmp_path, f"a.png,x,train,{cell},2,3,4"))


def test_table_corners_may_have_signs_and_exponents(tmp_path: Path) -> None:
    assert boxes_of(table(tmp_path, "a.png,x,train,-1.,+.5,3e1,4E+0")) == {"a.png": [(-1, 0.5, 30, 4)]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.png,x,train,1,2,3,4,inches", r"line 2, column units: 'inches' is neither pixels nor fractions: correct it"),
        ("a.png,x,train,5,5,30,18,fractions", r"column units: 'fractions' but the box is \(5, 5, 30, 18\): say pixels"),
        ("a.png,x,train,a,0,1,1,fractions", r"column x1: 'a' is not a number: give fractions"),
    ],
)
def test_table_units_that_do_not_fit_are_refused(row: str, message: str, tmp_path: Path) -> None:
    file = table(tmp_path, row, header=f"{HEADER},units")
    pictures(tmp_path)
    with pytest.raises(ValueError, match=message):
        boxes_of(file)


def masked(folder: Path, *rows: str) -> Path:
    file = table(folder, *rows, header=f"{HEADER},mask")
    pictures(folder)
    (folder / "masks").mkdir()
    mask = Image.new("L", (40, 20))
    mask.paste(200, (3, 4, 11, 9))
    mask.save(folder / "masks" / "a.png")
    Image.new("L", (40, 20)).save(folder / "masks" / "black.png")
    Image.new("L", (20, 40), 1).save(folder / "masks" / "turned.png")
    mask.save(folder / "masks" / "a.jpg")
    (folder / "masks" / "broken.png").write_bytes(b"no image")
    return file


@pytest.mark.parametrize("cached", [False, True])
def test_table_mask_is_the_box_around_its_foreground(cached: bool, tmp_path: Path) -> None:
    file = masked(tmp_path, "a.png,x,train,,,,,masks/a.png", "a.png,x,train,1,2,3,4,")
    dataset = read(file)
    for _ in range(2):
        found = read_boxes(dataset, dataset.train, tmp_path / "cache" if cached else None)
        assert found == {"a.png": [(3, 4, 11, 9), (1, 2, 3, 4)]}
    assert (tmp_path / "cache").exists() == cached


@pytest.mark.parametrize(("mode", "blank", "shown"), [("RGBA", (255, 255, 255, 0), "red"), ("LA", (255, 0), (9, 1))])
def test_table_mask_that_is_transparent_is_no_foreground(
    mode: str, blank: tuple[int, ...], shown: str | tuple[int, ...], tmp_path: Path
) -> None:
    file = masked(tmp_path, "a.png,x,train,,,,,masks/a.png")
    mask = Image.new(mode, (40, 20), blank)
    mask.paste(shown, (3, 4, 11, 9))
    mask.save(tmp_path / "masks" / "a.png")
    assert boxes_of(file) == {"a.png": [(3, 4, 11, 9)]}


def test_table_mask_that_changed_is_read_again(tmp_path: Path) -> None:
    file = masked(tmp_path, "a.png,x,train,,,,,masks/a.png")
    dataset = read(file)
    assert read_boxes(dataset, dataset.train, tmp_path / "cache") == {"a.png": [(3, 4, 11, 9)]}
    Image.new("1", (40, 20), 1).save(tmp_path / "masks" / "a.png")
    assert read_boxes(dataset, dataset.train, tmp_path / "cache") == {"a.png": [(0, 0, 40, 20)]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.png,x,train,,,,,../a.png", r"column mask: '../a.png' leaves the table's folder"),
        ("a.png,x,train,1,2,3,4,masks/a.png", r"column mask: 'masks/a.png' stands beside x1, y1, x2, y2: give the box"),
        ("a.png,x,train,,,,,masks/gone.png", r"column mask: 'masks/gone.png' cannot be read \(No such file"),
        ("a.png,x,train,,,,,masks/black.png", r"column mask: 'masks/black.png' is black or transparent all over"),
        ("a.png,x,train,,,,,masks/a.jpg", r"column mask: 'masks/a.jpg' is a JPEG, .*: save the mask as PNG"),
        (
            "a.png,x,train,,,,,masks/turned.png",
            r"is 20 x 40 pixels, the image 40 x 20: give a mask of the image's size",
        ),
        ("a.png,x,train,,,,,masks/broken.png", r"column mask: 'masks/broken.png' is no image .*: replace it"),
    ],
)
def test_table_mask_that_is_none_is_refused(row: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        boxes_of(masked(tmp_path, row))
