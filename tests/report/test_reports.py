"""Both pages: their contents, that no foreign script runs, and runs with missing or damaged files."""

import json
import re
import shutil

import numpy as np
import pytest

from helip.artifacts.hard_pairs import HardPairIndex
from helip.errors import HelipError
from helip.report.__main__ import main
from helip.report.mining_report import (
    compare_indexes,
    limits_of,
    near_duplicate,
    overlap_tables,
    report_folder,
)
from helip.report.run_report import run_report
from helip.report.runs import differing, labels, metric_order, read_run
from tests.report.pages import EVIL, Page, make_gallery, make_index, make_run


@pytest.fixture
def index_folder(tmp_path):
    make_gallery(tmp_path / "joint", make_index(tmp_path / "joint"))
    return tmp_path / "joint"


def test_a_run_as_one_page(tmp_path, index_folder, capsys):
    run = make_run(tmp_path / "run", hard_pairs=index_folder)
    assert main([str(run)]) == 0
    assert capsys.readouterr().out == f"report: {run}/report.html\n"
    page = Page(run / "report.html")
    assert page.is_harmless()
    # From 10 to 12 percent; the curve starts with the value before training.
    for text in ("10.00", "12.00", "+2.00", "t2i_recall@1 (%)", "loss", "optimizer step", "m", "abc", EVIL[:60]):
        assert text in page.text, text
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) > 30 and {a["alt"] for a in pictures} >= {"ab[0mc", "javascript:evil()"}
    assert "unreadable" in page.text and "(no caption)" in page.text
    assert max(len(str(a["alt"])) for a in pictures) <= 240


def test_runs_over_each_other(tmp_path, index_folder):
    folders = [make_run(tmp_path / f"{n}", n % 2, ("joint", "random")[n // 2], index_folder) for n in range(4)]
    out = tmp_path / "out" / "all.html"
    assert main([*map(str, folders), str(folders[0]), "--out", str(out), "--title", "Arms & <seeds>"]) == 0
    page = Page(out)
    assert page.is_harmless() and "Arms & <seeds>" in page.text
    names = [attributes["data-name"] for tag, attributes in page.tags if tag == "path" and "data-name" in attributes]
    assert names[:4] == ["score=joint seed=0", "score=joint seed=1", "score=random seed=0", "score=random seed=1"]
    assert "beside the start of the first run" in page.text
    assert page.text.count("Suspected false negatives") == 1  # the index that all runs share is shown once


def test_what_sets_runs_apart(tmp_path):
    runs = [read_run(make_run(tmp_path / str(n), n)) for n in range(2)]
    assert differing(runs) == ["seed"]  # paths do not change results
    assert labels(runs) == ["seed=0", "seed=1"]
    for run in runs:
        run.config["model.lr"] = run.config["optim.lr"] = f"1e-{run.config['seed']}"
    assert differing(runs) == ["optim.lr", "seed"]  # model.lr has the values of optim.lr
    for run, score in zip(runs, ("joint", "off"), strict=True):
        run.config.update({"helip.score": score, "helip.margin_weight": str(score == "joint")})
    assert "helip.margin_weight" not in labels(runs)[0] and labels(runs)[0].startswith("score=joint")
    twice = [read_run(make_run(tmp_path / "deep" / str(n))) for n in range(2)]
    assert labels(twice) == ["deep/0", "deep/1"]


def test_jobs_of_a_multirun_are_named_as_they_were_typed(tmp_path):
    """Presets differ in the classes of their parts: `helip=margin` says more than those."""
    folders = [make_run(tmp_path / str(n), n) for n in range(2)]
    for folder, preset in zip(folders, ("margin", "'off'"), strict=True):
        typed = [f"helip={preset}", "+model.arguments.x=1", f"train.max_steps={len(preset)}"]
        (folder / "status.json").write_text(json.dumps({"overrides": typed}))
    assert labels([read_run(folder) for folder in folders]) == ["helip=margin max_steps=6", "helip=off max_steps=5"]
    (folders[1] / "status.json").unlink()
    runs = [read_run(folder) for folder in folders]
    for run, name in zip(runs, ("ConstantMargin", "Margin"), strict=True):
        run.config["helip.margin._target_"] = f"helip.training.margins.{name}"
    assert labels(runs) == ["margin=ConstantMargin", "margin=Margin"]


def test_recall_at_5_before_recall_at_10_and_ranks_last():
    names = ["v/r@10", "v/mean_rank", "v/r@5", "v/r@1", "a/z"]
    assert sorted(names, key=metric_order) == ["a/z", "v/r@1", "v/r@5", "v/r@10", "v/mean_rank"]


@pytest.mark.parametrize("missing", ["config.json", "provenance.json", "results.json", "metrics.csv"])
def test_a_run_without_a_file_is_a_page_and_a_sentence(tmp_path, capsys, missing):
    run = make_run(tmp_path / "run", hard_pairs=tmp_path / "gone")
    (run / missing).unlink()
    assert main([str(run)]) == 0
    said = capsys.readouterr().out
    assert f"{missing} is missing" in said
    page = Page(run / "report.html")
    assert page.is_harmless() and f"{missing} is missing" in page.text


def test_damaged_files_and_other_peoples_results(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "results.json").write_text('{"metrics": {"a": {"x": "<b>", "y": true, "z": 1}, "b": 3}, "steps": "many"}')
    (run / "config.json").write_text("[1]")
    (run / "provenance.json").write_text("{")
    read = read_run(run)
    assert read.metrics == {"a": {"z": 1.0}} and len(read.problems) == 2
    assert run_report(tmp_path / "r.html", [read])
    (run / "results.json").write_text('{"metrics": 7}')
    assert read_run(run).metrics == {}


def test_what_is_no_run_is_one_sentence(tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "none"):
        assert main([str(folder)]) == 1
        out, err = capsys.readouterr()
        assert not out and err.startswith("error: ") and err.count("\n") == 1 and str(folder) in err


def test_an_evaluation_and_a_mining_are_runs_too(tmp_path, index_folder):
    evaluation = make_run(tmp_path / "e")
    (evaluation / "metrics.csv").unlink()
    (evaluation / "config.json").write_text('{"checkpoint": "x"}')
    mining = tmp_path / "m"
    mining.mkdir()
    (mining / "config.json").write_text('{"reuse": null}')
    (mining / "mining.json").write_text(json.dumps({"hard_pairs": str(index_folder)}))
    runs = [read_run(evaluation), read_run(mining)]
    assert [run.kind for run in runs] == ["evaluate", "mine"]
    assert [problem for run in runs for problem in run.problems] == ["provenance.json is missing"]
    run_report(tmp_path / "r.html", runs)
    assert "Suspected false negatives" in Page(tmp_path / "r.html").text


def test_mining_report_with_arms(tmp_path, index_folder, capsys):
    others = [tmp_path / name for name in ("image", "text")]
    for seed, folder in enumerate(others, 1):
        make_index(folder, seed, score=folder.name)
    assert main(["mining", str(index_folder), *map(str, others)]) == 0
    assert capsys.readouterr().out == f"report: {report_folder(index_folder)}/index.html\n"
    page = Page(report_folder(index_folder) / "index.html")
    assert page.is_harmless()
    assert "First 4 pairs (arms drawn at random: 14 %)" in page.text
    assert "near_duplicate 0.98" in page.text and "min_similarity 0.5" in page.text and EVIL[:60] in page.text


def test_overlap_tables_say_the_shares(tmp_path):
    arms = {name: make_index(tmp_path / name, seed) for seed, name in enumerate(("joint", "text"))}
    one, all_six = overlap_tables(arms, 6)
    shared = sum(
        len(set(a) & set(b)) for a, b in zip(arms["joint"].rows.tolist(), arms["text"].rows.tolist(), strict=True)
    )
    assert all_six.lines == [
        ["joint", "100.0 %", f"{shared / 1.8:.1f} %"],
        ["text", f"{shared / 1.8:.1f} %", "100.0 %"],
    ]
    equal = (arms["joint"].rows[:, 0] == arms["text"].rows[:, 0]).mean()
    assert one.lines[0][2] == f"{100 * equal:.1f} %"


def test_mining_report_without_gallery_or_with_wrong_arms(tmp_path, index_folder, capsys):
    shutil.rmtree(report_folder(index_folder))
    assert main(["mining", str(index_folder), "--out", str(tmp_path / "m.html")]) == 0
    assert "note: no gallery" in capsys.readouterr().out
    assert "python mine.py" in Page(tmp_path / "m.html").text and "same caption" in Page(tmp_path / "m.html").text
    for wrong in ([str(index_folder)] * 3, [str(index_folder), str(tmp_path)], [str(index_folder), "--topk", "7"]):
        assert main(["mining", *wrong]) == 1
        assert capsys.readouterr().err.startswith("error: ")


def test_imported_pairs_have_a_report_without_scores(tmp_path):
    made = make_index(tmp_path / "made")
    lacking = np.full(made.rows.shape, np.nan, np.float32)
    HardPairIndex(made.rows, lacking, lacking, lacking, {"fingerprint": "f"}).save(tmp_path / "imported")
    index = HardPairIndex.load(tmp_path / "imported")
    make_gallery(tmp_path / "imported", index)
    content = json.loads((report_folder(tmp_path / "imported") / "gallery.json").read_text())
    assert [section["title"] for section in content["sections"]] == ["A sample", "By how often a row is chosen (hubs)"]
    path, _ = compare_indexes([tmp_path / "imported"], None, tmp_path / "page.html")
    page = Page(path)
    assert page.is_harmless() and "Imported pairs have no scores." in page.text
    shown = [value or "" for _, own in page.tags for name, value in own.items() if name not in ("src", "content")]
    assert not re.findall(r"\bnan\b", " ".join([page.text, *shown]))
    assert len([tag for tag, _ in page.tags if tag == "img"]) > 30


def test_limits_are_those_of_the_score(tmp_path):
    index = make_index(tmp_path / "i", score="image")
    assert limits_of(index) == {"image": (0.5, 0.98), "text": (None, 0.98)} and near_duplicate(index) == (0.98, 0.98)
    index.meta["settings"].clear()
    assert limits_of(index) == {"image": (None, None), "text": (None, None)} and near_duplicate(index) == (1.0, 1.0)


def test_a_gallery_of_another_version_is_refused(tmp_path, index_folder):
    (report_folder(index_folder) / "gallery.json").write_text("{}")
    with pytest.raises(HelipError, match=r"python mine\.py"):
        run_report(tmp_path / "r.html", [read_run(make_run(tmp_path / "run", hard_pairs=index_folder))])
