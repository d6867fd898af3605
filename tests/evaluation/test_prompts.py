"""Labels, templates, and class embeddings compared with open_clip's."""

import json
import re

import numpy as np
import open_clip
import pytest
import torch

from helip.errors import HelipError
from helip.evaluation.metrics import accuracy_samples
from helip.evaluation.prompts import class_embeddings, classes_of, prompts, readable
from helip.evaluation.samples import values_of

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
NAMES = ["cat", "dog", "red fish", "bird", "cow", "hen", "owl"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    (folder / "zeroshot_tiny.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    return open_clip.create_model("zeroshot_tiny", output_dict=True)


@pytest.fixture(scope="module")
def tokenizer(model):
    return open_clip.get_tokenizer("zeroshot_tiny")


def test_readable():
    assert readable("face-smiling") == "face smiling"
    assert readable("people_&-body ") == "people & body"


def test_classes_of():
    names, label = classes_of(["b", "", "a", "b"])
    assert names == ["a", "b"] and label.tolist() == [1, -1, 0, 1]


def said(templates, name="cat", own=()):
    return [one(name) for one in prompts(templates, ["cat", "dog"], own)]  # type: ignore[operator]


def test_templates_are_prompts_or_a_set_of_them():
    assert said(("a {}", "the {c}", str.upper)) == ["a cat", "the cat", "CAT"]
    assert said(None, own=("an emoji of {}",)) == ["an emoji of cat"]
    assert len(said("openai")) == 80 and len(said("simple")) == 7 and "itap of a cat." in said("simple")
    assert len(prompts(("{}",), ["crane", "crane"])) == 1  # two of ImageNet's classes have this name


@pytest.mark.parametrize(
    ("templates", "words"),
    [
        ("a photo of a {}.", "give a list of prompts, or openai or simple"),
        (("a photo",), "classes 'cat' and 'dog' the same prompt 'a photo'"),
        ((lambda name: name[0] in "cd",), "the classes 'cat' and 'dog' the same prompt"),
        (("a {class}",), "'a {class}' cannot be filled in: write {} in"),
        (("{} {}",), "cannot be filled in"),
        (("a {",), "cannot be filled in"),
        ((), "there is no template"),
    ],
)
def test_templates_that_cannot_tell_classes_apart_are_refused(templates, words):
    with pytest.raises(HelipError, match=re.escape(words)):
        prompts(templates, ["cat", "dog"])


def test_class_embeddings_equal_the_plain_average_of_prompts(model, tokenizer):
    got = class_embeddings(model, tokenizer, NAMES, ["a photo of {}", lambda name: f"an emoji of {name}"])
    assert got.shape == (16, 7) and got.dtype == np.float32
    model.eval()
    for column, name in enumerate(NAMES):
        tokens = tokenizer([f"a photo of {name}", f"an emoji of {name}"])
        with torch.no_grad():
            mean = model.encode_text(tokens, normalize=True).mean(0)
        torch.testing.assert_close(torch.from_numpy(got[:, column]), mean / mean.norm())


def test_accuracy_equals_open_clips_path_on_the_same_model(model, tokenizer):
    model.eval()
    templates = open_clip.SIMPLE_IMAGENET_TEMPLATES
    images, label = torch.randn(40, 3, 32, 32), torch.arange(40) % 7
    with torch.no_grad():
        weights = open_clip.build_zero_shot_classifier(model, tokenizer, NAMES, templates)
        features = model.encode_image(images, normalize=True)
        logits = 100.0 * features @ weights
    weights = class_embeddings(model, tokenizer, NAMES, templates)
    got = values_of(accuracy_samples(features.numpy(), weights, label.numpy()))
    for key, k in (("top1", 1), ("top5", 5)):
        expected = (logits.topk(k).indices == label[:, None]).any(1).float().mean().item()
        assert got[key] == pytest.approx(expected)


def test_modes_of_the_model_survive(model, tokenizer):
    model.train()
    model.visual.eval()  # a frozen tower inside a model that trains
    class_embeddings(model, tokenizer, NAMES[:2], ["{}"])
    assert model.training and model.transformer.training and not model.visual.training
