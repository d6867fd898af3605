"""results.json, and its records of clip-benchmark."""

import json

from helip.evaluation.results import clip_benchmark_records, file_name, results

METRICS = {
    "test/i2t_recall@5": 0.2,
    "test/t2i_recall@1": 0.1,
    "test/t2i_median_rank": 9.0,
    "test/zeroshot_sub_group_top1": 0.3,
    "test/zeroshot_sub_group_mean_per_class": 0.25,
    "imagenet/zeroshot_top1": 0.4,
    "imagenet/zeroshot_top5": 0.6,
    "imagenet/zeroshot_mean_per_class": 0.35,
}


def test_records_have_the_keys_and_names_of_clip_benchmark():
    common = {"model": "RN50", "pretrained": "cc12m", "language": "en"}
    assert clip_benchmark_records(METRICS, dataset="emoji", model="RN50", pretrained="cc12m") == [
        {
            "dataset": "emoji/test",
            "task": "zeroshot_retrieval",
            "metrics": {"text_retrieval_recall@5": 0.2, "image_retrieval_recall@1": 0.1},
            **common,
        },
        {
            "dataset": "emoji/test/sub_group",
            "task": "zeroshot_classification",
            "metrics": {"acc1": 0.3, "acc5": None, "mean_per_class_recall": 0.25},
            **common,
        },
        {
            "dataset": "emoji/imagenet",
            "task": "zeroshot_classification",
            "metrics": {"acc1": 0.4, "acc5": 0.6, "mean_per_class_recall": 0.35},
            **common,
        },
    ]


def test_no_record_takes_the_place_of_another():
    metrics = {"a/zeroshot_top1": 0.5, "b/zeroshot_top1": 0.9, "b/probe_top1": 0.7, "c/zeroshot_top1": 0.1}
    names = {"a": "wds/x", "b": "wds/x", "c": "wds/y"}
    found = clip_benchmark_records(metrics, dataset="d", model="m", pretrained="p", names=names)
    assert [(one["dataset"], one["task"], [v for v in one["metrics"].values() if v]) for one in found] == [
        ("wds/x", "zeroshot_classification", [0.5]),
        ("d/b", "zeroshot_classification", [0.9]),
        ("wds/x", "linear_probe", [0.7]),
        ("wds/y", "zeroshot_classification", [0.1]),
    ]
    files = [file_name(one, "c") for one in (*found, {**found[0], "dataset": "x"})]  # wds_x, and a folder x
    assert len(set(files)) == 5


def test_results_hold_every_column_and_are_json():
    content = results(
        {"before": METRICS, "after": {"test/t2i_recall@1": 0.2}},
        dataset="emoji",
        model="RN50",
        pretrained={"before": "start.pt", "after": "final.pt"},
        about={"commit": "abc"},
    )
    assert json.loads(json.dumps(content)) == content
    assert content["commit"] == "abc" and content["metrics"]["after"] == {"test/t2i_recall@1": 0.2}
    assert [record["pretrained"] for record in content["clip_benchmark"]] == ["start.pt"] * 3 + ["final.pt"]
