"""From an operator's own captures to a better model, in one command:

    gridwatch ledger export --labelled --config /etc/gridwatch/edge.toml --out captures
    venv/bin/python own.py --captures captures --model ../garbage_nano_416 --out run [--data DATA]

Checks the captures, holds the newest weeks out, fine-tunes the model on the weeks before, compares both models on the held-out weeks, and
writes OUT/report.md, OUT/report.json and, if the new model is better, the model folder OUT/ID for `gridwatch model install`. Interrupted,
the same command goes on where it stopped. README.md explains what captures can and cannot show.

Exit status: 0 better; 1 not better; 3 captures, model or settings cannot be used; 4 cannot tell, too few captures.
"""

import argparse
import dataclasses
import functools
import hashlib
import json
import math
import os
import random
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch

import captures
import compare
import data as pictures
import evaluate
import held_out
import report
import train
from augment import Maker
from captures import Fault
from compose import overlap
from export import export
from net import from_onnx
from package import Deployed, Manifest, raised, write_folder

BATCH = 16
LONGEST = 640  # pixels of a training picture's longer side
DOUBT = 0.2  # score from which a detection of the old model, judged by nobody, is neither learnt nor punished
MAX_CACHED = 3000  # decoded training pictures kept in memory, at 0.7 MB each; of more, each is decoded when it is shown
LOOKS_PER_PICTURE = 20  # how often a training picture is shown, for the default of --steps
STEPS = 150, 1500  # least and most of that default
STATUS = {"better": 0, "not better": 1, "cannot tell": 4}


def arguments(given=None):
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--captures", required=True, help="folder that `gridwatch ledger export --labelled` wrote")
    args.add_argument("--model", required=True, help="model folder to start from: the installed one")
    args.add_argument("--out", required=True, help="checkpoints, report and the new model folder go here")
    args.add_argument("--data", help="public data to rehearse, as train.py takes it; without it the old model's own detections are rehearsed")
    args.add_argument("--sources", default=pictures.HERE / "garbage.toml", help="which public data: garbage.toml or adverts.toml")
    args.add_argument("--reviewed", action="store_true",
                      help="a person has completed the labels: what has no box is not there, and each box is right")
    args.add_argument("--weeks", type=int, help="newest weeks to hold out (default: a quarter of the cases)")
    args.add_argument("--at", type=float, default=compare.WORKING, help="start_score of the rule, for the figures at a fixed score")
    args.add_argument("--keep", action="store_true", help="train with too few captures, too, and write the model folder in any case")
    args.add_argument("--version", help="version of the new model (default: the next patch version, +own)")
    args.add_argument("--steps", type=int, help=f"of {BATCH} pictures (default: by the number of captures)")
    args.add_argument("--lr", type=float, default=5e-5)
    args.add_argument("--seed", type=int, default=7)
    args.add_argument("--freeze", nargs="*", default=["stem", "dark2", "dark3", "dark4"], help="parts of the network that stay as they are")
    args.add_argument("--workers", type=int, default=1)
    args.add_argument("--threads", type=int, default=max(1, min(4, (os.cpu_count() or 2) - 1)))
    args.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = args.parse_args(given)
    if not 0 < args.at < 1:
        raise Fault(f"--at {args.at}: a score lies between 0 and 1")
    if args.steps is not None and args.steps < 1:
        raise Fault(f"--steps {args.steps}: at least 1")
    return args


def training_picture(capture, judged, labels, old, reviewed, at, keep_pixels):
    """A capture as train.py takes it. Where nobody has judged, the old model speaks: labels that were not judged are learnt as it detects
    them, so that they are not forgotten; its other detections of judged labels are neither learnt nor punished."""
    image = cv2.imread(str(capture.path))
    if image is None:
        raise Fault(f"{capture.path}: cannot be read as a picture")
    height, width = image.shape[:2]
    whole = np.float32([width, height, width, height])
    own = [i for i in capture.confirmed(reviewed) if capture.names[i] in labels]
    boxes = [capture.boxes[i] * whole for i in own]
    numbers = [labels.index(capture.names[i]) for i in own]
    rejected = [] if capture.is_accepted else [corners * whole for _, corners in capture.judged]
    certain = [*boxes, *rejected]
    if not reviewed:
        for corners, name in zip(capture.boxes, capture.names):
            if name in judged and not any(overlap(corners * whole, box) >= 0.5 for box in certain):
                boxes.append(corners * whole), numbers.append(pictures.UNJUDGED)
    for row in old.look(image):
        name, score = labels[int(row[5])], row[4]
        if name in judged and (reviewed or score < DOUBT or any(overlap(row[:4], box) >= 0.5 for box in [*certain, *boxes])):
            continue
        if name in judged or score >= at:
            boxes.append(row[:4].astype(np.float32)), numbers.append(pictures.UNJUDGED if name in judged else int(row[5]))
    scale = min(1.0, LONGEST / max(width, height))
    size = round(width * scale), round(height * scale)
    pixels = functools.partial(pictures.read_pixels, str(capture.path), *size)
    boxes = np.array(boxes, np.float32).reshape(-1, 4) * np.float32([size[0] / width, size[1] / height] * 2)
    mask = tuple(float(label in judged) for label in labels)
    return pictures.Picture(capture.path.name, functools.cache(pixels) if keep_pixels else pixels, boxes, np.array(numbers, np.int64),
                            pictures.Source("captures", 0, {}, mask, 0.0, "hard", LONGEST, zoom=0.1))


def own_sources(split, labels, old, args):
    """Accepted and rejected training pictures, each as a source of its own, so that hard negatives come often."""
    by_case = captures.judged_labels(split.train, labels, args.reviewed)
    make = lambda c: training_picture(c, by_case[c.case], labels, old, args.reviewed, args.at, len(split.train) <= MAX_CACHED)
    parts = [[make(c) for c in split.train if c.is_accepted == kind] for kind in (True, False)]
    return [part for part in parts if part]


def rehearsal(args, labels):
    """The public training pictures by source, and what is pasted into them; nothing without --data."""
    if not args.data:
        return [], None
    known, sources, table = pictures.read_sources(args.sources)
    if known != labels:
        raise Fault(f"{args.sources}: its labels are {', '.join(known)}, the model has {', '.join(labels)}")
    missing = [s.folder for s in sources if not (Path(args.data) / s.folder).is_dir()]
    if missing:
        raise Fault(f"--data {args.data}: no folder {', '.join(missing)}; README.md names the data sets; without --data none is needed")
    parts = pictures.load_train(args.data, sources, evaluate.read_twins()[0])
    return parts, train.what_is_pasted(table, args.data, parts, labels)


def shares(own, public):
    """Pictures of a batch per source: half of the batch captures, and of these at least a quarter rejected ones."""
    others = [max(1, part[0].source.share // 2) for part in public]
    room = BATCH - sum(others)
    if len(own) == 1:
        return [room, *others]
    rejected = min(room // 2, max(room // 4, round(room * len(own[1]) / (len(own[0]) + len(own[1])))))
    return [room - rejected, rejected, *others]


def with_share(part, share):
    return [dataclasses.replace(p, source=dataclasses.replace(p.source, share=share)) for p in part]


def begin_run(out, settings):
    """Notes what this run is made of. Raises Fault where OUT holds a run of something else, because it cannot be continued."""
    path = Path(out) / "settings.json"
    if path.exists():
        try:
            before = json.loads(path.read_text())
        except ValueError as e:
            raise Fault(f"{path}: {e}; name another --out") from None
        changed = [key for key in settings if before.get(key) != settings[key]]
        if changed:
            raise Fault(f"{out}: holds a run with other {', '.join(changed)}; name another --out, or delete the folder")
        return
    Path(out).mkdir(parents=True, exist_ok=True)
    path.with_suffix(".new").write_text(json.dumps(settings, indent=1) + "\n")
    os.replace(path.with_suffix(".new"), path)


def digest(split):
    """Of all that the captures contribute, so that a resumed run is the same run."""
    own = hashlib.sha256()
    for side in (split.train, split.held_out):
        for c in side:
            own.update(f"{c.path.name} {c.case} {c.is_accepted} {c.names} {c.boxes.tolist()}\n".encode())
        own.update(b"--\n")
    return own.hexdigest()


def learn(args, manifest, split, say):
    """Trains up to OUT/last.pt and exports OUT/model.onnx. Returns (steps, pictures of a batch by source)."""
    labels, old = manifest.labels, Deployed(manifest)
    own = own_sources(split, labels, old, args)
    public, pasted = rehearsal(args, labels)
    parts = [with_share(part, share) for part, share in zip([*own, *public], shares(own, public))]
    settings = argparse.Namespace(**vars(args), start=str(manifest.network), cooldown=max(1, args.steps // 2),
                                  still_norms=True, warm_up=max(1, min(30, args.steps // 3)), save_every=25, measure_every=args.steps)
    shapes = train.SHAPES if args.device != "cpu" else train.SMALL_SHAPES
    train.set_up(settings)
    batches = train.Batches(Maker(parts, pasted, len(labels)), shapes, args.seed, args.steps)
    say(f"Trains {args.steps} steps on {', '.join(str(len(p)) for p in own)} captures" + (f" and {sum(map(len, public))} public pictures" if public else ""))
    train.fit(settings, manifest.classes, batches, say)
    export([Path(args.out) / "last.pt"], str(Path(args.out) / "model.onnx"))


def look_at(model, scenes):
    return [model.look(s.picture.image) for s in scenes]


def measure(args, manifest, split):
    """Both models on the held-out captures: rows, groups, counts of other labels, and the score at which the new model finds as much, by label."""
    labels = manifest.labels
    scenes = held_out.scenes(split.held_out, labels, args.reviewed)
    models = Deployed(manifest), Deployed(manifest, Path(args.out) / "model.onnx")
    before, after = (look_at(model, scenes) for model in models)
    old, new, scores = {}, {}, {}
    for k in sorted({k for s in scenes for k in s.judged}):
        a, b = (held_out.label_scores(scenes, found, k, args.reviewed) for found in (before, after))
        of_old, of_new = held_out.figures(a, b, labels[k], args.at)
        old.update(of_old), new.update(of_new)
        if a.has.any():
            scores[labels[k]] = held_out.equal_finds(a, b, args.at)(np.ones(len(scenes)))
    groups = captures.groups(split.held_out)
    return held_out.rows(old, new, groups), groups, held_out.kept_others(scenes, before, after, args.at), scores


def public_rows(args, manifest):
    """The comparison of compare.py on the public dev pictures: whether the new model has forgotten something. Nothing without --data."""
    if not args.data:
        return []
    models = manifest.network, Path(args.out) / "model.onnx"
    old, new = (compare.figures(evaluate.onnx_predict(model), args.data, args.sources) for model in models)
    return compare.compared(old, new, 1000)


def model_of(args):
    """The manifest of --model. Raises Fault where its network cannot be fine-tuned, or where OUT would overwrite it."""
    manifest = Manifest(args.model)
    if (Path(args.out) / manifest.id).resolve() == manifest.folder.resolve():
        raise Fault(f"--out {args.out}: the new model would overwrite {args.model}; name another folder")
    try:
        from_onnx(str(manifest.network), len(manifest.classes), manifest.classes)
    except Exception as e:  # onnx raises protobuf's errors, which share no class
        raise Fault(f"{manifest.network}: not a YOLOX-nano of this recipe ({e})") from None
    return manifest


def run(args):
    """The whole command; returns the exit status."""
    started = time.time()
    manifest = model_of(args)
    usable, left_out = captures.usable(captures.read(args.captures), manifest.id, manifest.labels, args.reviewed)
    try:
        split, lacking = captures.split(usable, args.weeks)
    except captures.TooFew as e:
        print(f"cannot tell: too few captures\n  {e}")
        return STATUS["cannot tell"]
    split.left_out.update(left_out)
    for line in report.split_lines(split):
        print(line)
    if lacking and not (args.keep and split.train and split.held_out):
        print("cannot tell: too few captures; nothing was trained\n  " + "\n  ".join(lacking))
        Path(args.out).mkdir(parents=True, exist_ok=True)
        report.write(args.out, report.Result(manifest, split, args, verdict="cannot tell", reasons=lacking))
        return STATUS["cannot tell"]
    own = BATCH // 2 if args.data else BATCH
    args.steps = args.steps or min(STEPS[1], max(STEPS[0], math.ceil(LOOKS_PER_PICTURE * len(split.train) / own)))
    begin_run(args.out, {"captures": digest(split), "model": manifest.sha256, "data": str(args.data), "sources": str(args.sources),
                         "reviewed": args.reviewed, "at": args.at, "steps": args.steps, "lr": args.lr, "seed": args.seed,
                         "freeze": args.freeze})
    random.seed(args.seed)
    learn(args, manifest, split, train.logger(args.out))
    trained = time.time()
    rows, groups, others, scores = measure(args, manifest, split)
    verdict, reasons = held_out.verdict(rows, groups, others)
    if lacking and verdict == "better":
        verdict, reasons = "cannot tell", lacking
    result = report.Result(manifest, split, args, verdict, reasons, rows, others, scores, public_rows(args, manifest))
    result.seconds = {"training": round(trained - started), "measuring": round(time.time() - trained)}
    if verdict == "better" or args.keep:
        result.version = args.version or raised(manifest.version)
        result.folder = Path(args.out) / manifest.id
        result.self_tests = write_folder(manifest, Path(args.out) / "model.onnx", result.version, report.card(result), result.folder)
    report.write(args.out, result)
    print((Path(args.out) / "report.md").read_text())
    return STATUS[verdict]


def main(given=None):
    try:
        return run(arguments(given))
    except Fault as e:
        print(e, file=sys.stderr)
        return 3
    except OSError as e:
        print(f"{e.filename or 'file'}: {e.strerror or e}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
