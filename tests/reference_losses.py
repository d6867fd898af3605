"""HELIP's loss as plain double loops over one process's pairs, straight from the formulas."""

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
