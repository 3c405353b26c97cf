"""Compares two models on held-out captures: what own.py reports.

The labels of captures come from the installed model's own detections, so that its scores on them were selected: all were above the
rule's threshold. Any other model, also a worse one, has lower scores there, on accepted and on rejected objects alike. Therefore only
figures without a fixed score can show that a model is **better**: the AP, and the false alarms at the score at which it finds as much as
the old one. Figures at the fixed score can only show that it is worse.

Unless a person has reviewed the labels, only detections at judged objects count, because of the others nobody knows whether they are
right. That a new model reports much more elsewhere is a figure of its own.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

import compare
import evaluate
from captures import judged_labels
from compose import overlap
from data import Picture

NEAR = 0.3  # of the smaller box: a detection that overlaps a judged object by so much is at this object
LEVEL = 0.95
NOTICEABLE = 0.10  # a difference of so much is worth a new model; captures that could not show it cannot tell
OTHERS_KEPT = 0.8  # share of the old model's detections of unjudged labels that the new one must still make
OTHERS_LEAST = 20  # such detections, fewer are not judged
DRAWS = 4000  # so that the corrected interval of ten figures has ten draws beyond each end


@dataclass
class Scene:
    """A held-out picture: its judged boxes in pixels by label, and the labels that are judged in it."""

    picture: Picture  # boxes and labels: the confirmed ones
    rejected: list  # [(label number, corners in pixels)]
    judged: set  # label numbers


def scenes(captures, labels, reviewed):
    """Of each capture its Scene; labels that the model does not have are left out."""
    by_case, out = judged_labels(captures, labels, reviewed), []
    for capture in captures:
        image = cv2.imread(str(capture.path))
        if image is None:
            raise ValueError(f"{capture.path}: cannot be read as a picture")
        whole = np.float32([image.shape[1], image.shape[0]] * 2)
        own = [i for i in capture.confirmed(reviewed) if capture.names[i] in labels]
        picture = Picture(
            name=capture.path.name,
            pixels=lambda path=capture.path: cv2.imread(str(path)),
            boxes=capture.boxes[own].reshape(-1, 4) * whole,
            labels=np.array([labels.index(capture.names[i]) for i in own], np.int64),
            source=None,
        )
        rejected = [] if capture.is_accepted else capture.judged
        rejected = [(labels.index(label), corners * whole) for label, corners in rejected if label in labels]
        out.append(Scene(picture, rejected, {labels.index(label) for label in by_case[capture.case]}))
    return out


@dataclass
class LabelScores:
    """What one model makes of one label in all scenes [N]."""

    has: np.ndarray  # judged, and there
    clean: np.ndarray  # judged, and not there
    right: np.ndarray  # highest score of a detection at the object, 0 where none is
    wrong: np.ndarray  # highest score of a detection in a clean picture
    elsewhere: np.ndarray  # highest score of a detection that is at no judged object
    matched: tuple  # of compare.matched


def label_scores(scenes, found, label, reviewed):
    """`found`: the rows of evaluate.look of each scene."""
    n = len(scenes)
    has, clean, right, wrong, elsewhere = np.zeros(n, bool), np.zeros(n, bool), np.zeros(n), np.zeros(n), np.zeros(n)
    truth, kept = [], []
    for i, (scene, rows) in enumerate(zip(scenes, found)):
        is_judged = label in scene.judged
        own = scene.picture.boxes[scene.picture.labels == label] if is_judged else np.zeros((0, 4))
        known = [*own, *(box for k, box in scene.rejected if k == label)]
        rows = rows[rows[:, 5] == label] if is_judged else rows[:0]
        near = np.array([reviewed or any(overlap(r[:4], box) >= NEAR for box in known) for r in rows], bool)
        best = lambda chosen: float(chosen[:, 4].max()) if len(chosen) else 0.0
        has[i], clean[i] = len(own) > 0, is_judged and not len(own)
        right[i] = best(rows[[any(overlap(r[:4], box) >= NEAR for box in own) for r in rows]] if len(own) and len(rows) else rows[:0])
        wrong[i] = best(rows[near]) if clean[i] else 0.0
        elsewhere[i] = best(rows[~near])
        truth.append(replace(scene.picture, boxes=own, labels=np.full(len(own), label)))
        kept.append(rows[near])
    return LabelScores(has, clean, right, wrong, elsewhere, compare.matched(truth, kept, label))


def equal_finds(old, new, at):
    """A function of weights: the score at which `new` finds as many as `old` does at the score `at`; 0 where it never does."""
    order = np.argsort(-new.right, kind="stable")
    order = order[new.has[order]]

    def score(weights):
        wanted = (weights * (old.has & (old.right >= at))).sum()
        if wanted == 0:
            return at
        reached = np.flatnonzero(np.cumsum(weights[order]) >= wanted - 1e-9)
        return float(new.right[order[reached[0]]]) if len(reached) else 0.0

    return score


def figures(old, new, label, at):
    """{(label, figure): (function of weights, pictures, +1 where more is better)} of the old and of the new model."""
    n, out = len(old.has), ({}, {})
    for own, scores in zip(out, (old, new)):
        if old.has.any():
            own[label, "AP50"] = (lambda w, s=scores: compare.precision(*s.matched, w)), n, 1
            own[label, f"found at {at}"] = compare.share(scores.right >= at, scores.has), n, 1
        if old.clean.any():
            own[label, f"false at {at}"] = compare.share(scores.wrong >= at, scores.clean), n, -1
        every = np.ones(n, bool)
        own[label, f"pictures with detections elsewhere at {at}"] = compare.share(scores.elsewhere >= at, every), n, -1
        if old.has.any() and old.clean.any():
            score = equal_finds(old, scores, at)  # of the old one, too: its lowest score of those finds, not `at`
            share = lambda w, s=scores, score=score: compare.share(s.wrong >= max(score(w), evaluate.FLOOR), s.clean)(w)
            own[label, "false where as much is found"] = share, n, -1
    return out


SHOWS_BETTER = ("AP50", "false where as much is found")


def rows(old, new, groups, draws=DRAWS):
    """Of each figure a dict. What may show an improvement is judged at the level corrected for their number (Bonferroni), because of
    twenty figures one would be outside of its 95 % interval by chance; a loss at 95 %."""
    chances = sum(name in SHOWS_BETTER for _, name in old)
    strict, out = 1 - (1 - LEVEL) / max(1, chances), []
    for key, before, after, (plain, corrected) in compare.intervals(old, new, draws, groups, (LEVEL, strict)):
        sign = old[key][2]
        may_win = key[1] in SHOWS_BETTER
        low, high = corrected if may_win else plain
        said = "within noise"
        if sign * (plain[1] if sign > 0 else plain[0]) < 0:
            said = "worse"
        elif may_win and sign * (low if sign > 0 else high) > 0:
            said = "better"
        out.append({"label": key[0], "figure": key[1], "old": before, "new": after, "difference": after - before, "low": low, "high": high,
                    "sign": sign, "said": said})
    return out


def kept_others(scenes, old, new, at):
    """Of the old model's detections of labels that nobody judged: how many the new one makes too, and how many there are."""
    kept = total = 0
    for scene, before, after in zip(scenes, old, new):
        for row in before[before[:, 4] >= at]:
            if int(row[5]) in scene.judged:
                continue
            total += 1
            same = after[(after[:, 5] == row[5]) & (after[:, 4] >= 0.6 * at)]
            kept += any(overlap(row[:4], other[:4]) >= 0.6 for other in same)
    return kept, total


def verdict(rows, groups, others=(0, 0)):
    """("better" | "not better" | "cannot tell", the reasons, one a line)."""
    reasons = [f"{r['label']}: {r['figure']} is worse ({r['old']:.2f} to {r['new']:.2f})" for r in rows if r["said"] == "worse"]
    kept, total = others
    if total >= OTHERS_LEAST and kept < OTHERS_KEPT * total:
        reasons.append(f"of {total} detections of labels that nobody judged, the new model makes {kept}; use --data, so that it rehearses them")
    if reasons:
        return "not better", reasons
    better = [f"{r['label']}: {r['figure']} {r['old']:.2f} to {r['new']:.2f}" for r in rows if r["said"] == "better"]
    if better:
        return "better", better
    chances = [r for r in rows if r["figure"] in SHOWS_BETTER]
    if not chances:
        return "cannot tell", ["too few: no label has both accepted and rejected cases in the held-out weeks"]
    best = lambda r: max(r["sign"] * r["low"], r["sign"] * r["high"])
    reasons = []
    for r in chances:
        gain, half, number = r["sign"] * r["difference"], (r["high"] - r["low"]) / 2, int(max(groups)) + 1
        text = f"{r['label']}: {r['figure']} {r['old']:.2f} to {r['new']:.2f} is within noise ([{r['low']:+.2f}, {r['high']:+.2f}])"
        if gain > 0.005:
            text += f"; about {int(np.ceil(number * (half / gain) ** 2))} held-out case-days would show such a difference, there are {number}"
        reasons.append(text)
    if any(best(r) >= NOTICEABLE for r in chances):
        return "cannot tell", ["too few: a noticeable improvement cannot be ruled out either", *reasons]
    return "not better", reasons
