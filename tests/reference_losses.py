"""HELIP's loss as double loops over the pairs of one process, from the formulas; the margins in numpy."""

import numpy as np
import torch


def known_duplicate(identity, i, j):
    return identity is not None and any(int(a) == int(b) for a, b in zip(identity[i], identity[j], strict=True))


def clip_terms(similarity, scale, identity):
    """Mean cross-entropy over the rows of (B, B), known duplicates left out of the denominator."""
    total = 0.0
    for i in range(len(similarity)):
        kept = [j for j in range(len(similarity)) if j == i or not known_duplicate(identity, i, j)]
        total = total - torch.log(
            torch.exp(scale * similarity[i, i]) / sum(torch.exp(scale * similarity[i, j]) for j in kept)
        )
    return total / len(similarity)


def margin_terms(similarity, target, identity, mined, masked):
    """HNML: mean over targets; `masked` is the identity if duplicates are masked, else None."""
    targets = [i for i in range(len(target)) if target[i] == i]
    total = similarity.sum() * 0
    for i in targets:
        partners = [h for h in range(len(target)) if h != i and target[h] == i]
        hard = [h for h in partners if not known_duplicate(masked, i, h)]
        normal = []
        for j in range(len(target)):
            is_mined = mined is not None and any(int(m) == int(identity[j][0]) for m in mined[i] if m >= 0)
            if j != i and j not in partners and not known_duplicate(masked, i, j) and not is_mined:
                normal.append(j)
        if hard and normal:
            bar = min((similarity[i, h] for h in hard), key=lambda value: float(value.detach()))
            total = total + sum(torch.clamp(similarity[i, j] - bar, min=0) for j in normal) / len(normal)
    return total / max(len(targets), 1)


def helip_loss(image, text, scale, target, identity=None, mined=None, gamma=1.0, symmetric=False, mask=True):
    """(contrastive term, weighted margin term) of one process that holds the whole batch; float64 inputs."""
    similarity = image @ text.T
    masked = identity if mask else None
    contrastive = (clip_terms(similarity, scale, masked) + clip_terms(similarity.T, scale, masked)) / 2
    margin = margin_terms(similarity, target, identity, mined, masked)
    if symmetric:
        margin = margin + margin_terms(similarity.T, target, identity, mined, masked)
    return contrastive, gamma * margin


def siglip_term(image, text, scale, bias, identity=None):
    total = 0.0
    for i in range(len(image)):
        for j in range(len(text)):
            sign = 1.0 if i == j else -1.0
            if i == j or not known_duplicate(identity, i, j):
                total = total + torch.log1p(torch.exp(-sign * (scale * image[i] @ text[j] + bias)))
    return total / len(image)


def numpy_duplicates(identity):
    """(B, B) bool, the diagonal left out."""
    same = (identity[:, None] == identity[None]).any(-1)
    return same & ~np.eye(len(identity), dtype=bool)


def numpy_offset(frozen, identity, m=0.0, gamma=0.0, order=None):
    """M: constant m, or gamma * F F^t of (B, D) frozen features; `order` takes its rows and columns from elsewhere."""
    offset = m + gamma * frozen @ frozen.T
    none = numpy_duplicates(identity) | np.eye(len(offset), dtype=bool)
    offset[none] = 0
    if order is not None:
        offset = offset[np.ix_(order, order)]
    offset[none] = 0
    return offset


def numpy_contrastive(kind, image, text, scale, bias, identity, offset):
    """CLIP's or SigLIP's loss of scale * (S + M), known duplicates left out."""
    duplicate, count = numpy_duplicates(identity), len(image)
    logits = scale * (image @ text.T + offset)
    if kind == "siglip":
        signs = 2 * np.eye(count) - 1
        return np.where(duplicate, 0, np.logaddexp(0, -signs * (logits + bias))).sum() / count
    logits[duplicate] = -np.inf
    rows, columns = np.logaddexp.reduce(logits, axis=1), np.logaddexp.reduce(logits, axis=0)
    return (rows.mean() + columns.mean()) / 2 - np.diag(logits).mean()


def numpy_hnml(image, text, target, identity, mined):
    """HNML of images, over sets instead of masks."""
    similarity, duplicate, total = image @ text.T, numpy_duplicates(identity), 0.0
    targets = [i for i, t in enumerate(target) if i == t]
    for i in targets:
        partners = {h for h, t in enumerate(target) if t == i} - {i}
        copies, members = (
            set(np.flatnonzero(duplicate[i])),
            {j for j, row in enumerate(identity[:, 0]) if row in mined[i]},
        )
        hard, normal = partners - copies, set(range(len(target))) - {i} - partners - copies - members
        if hard and normal:
            bar = min(similarity[i, h] for h in hard)
            total += sum(max(0, similarity[i, j] - bar) for j in normal) / len(normal)
    return total / max(1, len(targets))


def numpy_gradients(function, parameters, step=1e-6):
    """Central differences of a scalar function of a dict of arrays, one entry at a time."""
    found = {}
    for name, values in parameters.items():
        found[name] = np.zeros_like(values)
        for place in np.ndindex(values.shape):
            ends = []
            for sign in (1, -1):
                moved = values.copy()
                moved[place] += sign * step
                ends.append(function(parameters | {name: moved}))
            found[name][place] = (ends[0] - ends[1]) / (2 * step)
    return found
