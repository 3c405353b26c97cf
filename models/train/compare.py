"""Says whether a model is better than another: `python compare.py OLD.onnx NEW.onnx --data DATA [--sources adverts.toml]`.

Both look at the same dev pictures. The pictures are drawn anew with replacement some thousand times, the same draw for both (paired
bootstrap, Efron 1979), and the middle 95 % of the differences are the interval. **A difference whose interval contains 0 is not called
better or worse**: it is within what other pictures of the same kind would have changed. Exit status 0 only where something is
better and nothing is worse.

Pictures of one scene are not independent, so that intervals of a set of bursts are too narrow; and of 20 rows, one is
outside by chance. Few pictures give a wide interval: that is their answer.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

import data as pictures
import evaluate

RECALLS = np.linspace(0, 1, 101)
SEED = 20
WORKING = 0.5  # the score from which the product's rules take a box


def matched(truth, found, label, iou=0.5):
    """Found boxes of `label`, best first, as COCO matches them: whether each is right [D], its picture [D]; and real boxes per picture."""
    scores, right, which, real = [], [], [], np.zeros(len(truth))
    for i, (picture, rows) in enumerate(zip(truth, found)):
        own = picture.boxes[picture.labels == label]
        real[i] = len(own)
        free = np.ones(len(own), bool)
        for row in rows[rows[:, 5] == label]:
            sides = (np.minimum(own[:, 2:], row[2:4]) - np.maximum(own[:, :2], row[:2])).clip(0)
            inner = sides.prod(1)
            over = inner / ((own[:, 2:] - own[:, :2]).prod(1) + (row[2:4] - row[:2]).prod() - inner + 1e-9) * free
            hit = len(own) > 0 and over.max() >= iou
            if hit:
                free[over.argmax()] = False
            scores.append(row[4]), right.append(hit), which.append(i)
    order = np.argsort(-np.array(scores), kind="stable")
    return np.array(right, bool)[order], np.array(which, int)[order], real


def precision(right, which, real, weights):
    """COCO's AP50 where picture i counts `weights[i]` times."""
    total = float((real * weights).sum())
    if total == 0 or not len(right):
        return 0.0
    counted = weights[which]
    true, every = np.cumsum(right * counted), np.cumsum(counted)
    curve = np.maximum.accumulate((true / np.maximum(every, 1e-9))[::-1])[::-1]
    at = np.searchsorted(true / total, RECALLS)
    return float(np.append(curve, 0.0)[np.minimum(at, len(curve))].mean())


def share(numerator, denominator):
    """A function of weights: of the pictures in `denominator`, those in `numerator` too."""
    return lambda weights: float((weights * (numerator & denominator)).sum() / max((weights * denominator).sum(), 1))


def figures(predict, data, sources):
    """{(folder, name): (function of the pictures' weights, pictures, +1 where more is better)} of one model."""
    labels, out = pictures.read_sources(sources)[0], {}
    for folder, truth, found, own, mask, _ in evaluate.looked_at(predict, data, sources):
        for k in own:
            rows = matched(truth, found, k)
            out[folder, f"AP50 {labels[k]}"] = (lambda w, rows=rows: precision(*rows, w)), len(truth), 1
        for k, label in enumerate(labels):
            if not mask[k]:
                continue
            for at in (evaluate.AT, WORKING):
                has, right, wrong = evaluate.alarms(truth, found, k, at).T
                if has.any() and at == WORKING:
                    out[folder, f"pictures found {label} at {at}"] = share(right, has), len(truth), 1
                if (~has).any():
                    out[folder, f"clean pictures false {label} at {at}"] = share(wrong, ~has), len(truth), -1
    return out


def intervals(old, new, draws, groups=None, levels=(0.95,)):
    """Per figure of `figures`: (key, old, new, [(low, high) of the difference per level]).

    Whole groups are drawn: `groups[i]` is the number of the group (a case, a day) of picture i; without it each picture is its own."""
    rng = np.random.default_rng(SEED)
    for key, (before, count, _) in old.items():
        after, whole = new[key][0], np.ones(count)
        own = np.arange(count) if groups is None else np.asarray(groups)
        number, differences = int(own.max()) + 1, []
        for _ in range(draws):
            weights = np.bincount(rng.integers(0, number, number), minlength=number)[own].astype(float)
            differences.append(after(weights) - before(weights))
        spans = [np.percentile(differences, (50 - 50 * level, 50 + 50 * level)) for level in levels]
        yield key, before(whole), after(whole), [(float(low), float(high)) for low, high in spans]


def compared(old, new, draws):
    """Rows of folder, figure, old, new, difference, its interval, and what may be said."""
    rows = []
    for key, before, after, ((low, high),) in intervals(old, new, draws):
        said = "within noise"
        if low > 0 or high < 0:
            said = "better" if (low > 0) == (old[key][2] > 0) else "worse"
        rows.append((*key, before, after, after - before, low, high, said))
    return rows


def verdict(rows):
    """Of all rows together."""
    said = [row[-1] for row in rows]
    if "worse" in said:
        return "worse in something"
    return "better" if "better" in said else "not shown to be better"


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("old")
    args.add_argument("new")
    args.add_argument("--data", required=True)
    args.add_argument("--sources", default=evaluate.HERE / "garbage.toml")
    args.add_argument("--draws", type=int, default=1000)
    args.add_argument("--json")
    args = args.parse_args()
    old, new = (figures(evaluate.onnx_predict(model), args.data, args.sources) for model in (args.old, args.new))
    rows = compared(old, new, args.draws)
    for folder, name, before, after, difference, low, high, said in rows:
        print(f"{folder:18} {name:42} {before:.3f} -> {after:.3f}  {difference:+.3f} [{low:+.3f}, {high:+.3f}]  {said}")
    print(verdict(rows))
    if args.json:
        keys = "folder", "figure", "old", "new", "difference", "low", "high", "said"
        Path(args.json).write_text(json.dumps({"verdict": verdict(rows), "rows": [dict(zip(keys, r)) for r in rows]}, indent=1) + "\n")
    sys.exit(0 if verdict(rows) == "better" else 1)


if __name__ == "__main__":
    main()
