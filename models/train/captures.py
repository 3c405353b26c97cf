"""Reads the folder that `gridwatch ledger export --labelled` writes, checks it, and splits it by time.

Nothing is trained or measured here. All faults are reported together, each with its file. Of a case the export knows only what a
clerk judged: the boxes of an accepted case are certain, those of a rejected case are certainly wrong, and of everything else in the
picture nothing is known, unless a person has reviewed the labels (`reviewed`).
"""

import datetime
import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

MAX_PICTURES = 100_000
MAX_TEXT = 256 << 20  # bytes of provenance.jsonl; a line of 100 boxes takes 10 KB
MAX_PICTURE = 64 << 20  # bytes of a picture file; the daemon's are below 2 MiB
MAX_LABELS = 1 << 20  # bytes of a label file
MAX_FAULTS = 20  # listed; more are counted
STATES = {
    True: ("accepted", "dispatched", "disposed", "verify_requested", "closed", "reopened"),
    False: ("rejected",),
}
SAME = 0.002  # of the picture's side: corners that differ less are one box, written with other digits

# Minimum number of groups (cases that share no camera and day) that can show a difference. With 8 accepted and 8 rejected groups, a
# difference in which all of one kind agree has a probability of 1 in 128 under chance; with 5 it has 1 in 16, which shows nothing.
MIN_HELD_OUT = 8
MIN_TRAIN_CASES = 20  # fewer cannot teach what the model does not know; 5 of them accepted
MIN_TRAIN_ACCEPTED = 5
HELD_OUT_SHARE = 0.25  # of all cases, at least


class Fault(Exception):
    """The input cannot be used: one or more messages for the operator."""

    def __init__(self, messages):
        super().__init__("\n".join([messages] if isinstance(messages, str) else messages))


class TooFew(Exception):
    """There are not enough captures for an answer; the message says how many are needed."""


@dataclass
class Capture:
    """A picture of a decided case. Boxes [M, 4] are corners as fractions of the picture."""

    path: Path
    case: str
    camera: str
    at: datetime.datetime
    is_accepted: bool
    model: str  # id without version, empty where the line does not name one
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))  # from the label file
    names: list = field(default_factory=list)  # their labels
    judged: list = field(default_factory=list)  # [(label, corners)]: what the clerk accepted or rejected
    unconfirmed: list = field(default_factory=list)  # [(label, corners)]: detected, confirmed by no person

    @property
    def week(self):
        """Year and ISO week of the local date."""
        return self.at.isocalendar()[:2]

    @property
    def day(self):
        return self.camera, self.at.date()

    def confirmed(self, reviewed=False):
        """Indices of the boxes that a person has confirmed: all but those that stand in the export as unconfirmed."""
        if reviewed:
            return list(range(len(self.names)))
        doubtful = lambda i: any(
            self.names[i] == label and np.abs(self.boxes[i] - corners).max() < SAME for label, corners in self.unconfirmed
        )
        return [i for i in range(len(self.names)) if not doubtful(i)]


def read_names(path):
    """The labels of data.yaml, by number. Of YAML, the three ways in which labelling tools write them are understood."""
    names, inside = {}, False
    for number, line in enumerate(read_text(path, MAX_LABELS).splitlines(), 1):
        text = line.split(" #")[0].rstrip()
        if text.startswith("names:"):
            inside, rest = True, text[6:].strip()
            if rest.startswith("[") and rest.endswith("]"):
                names = dict(enumerate(n.strip().strip("'\"") for n in rest[1:-1].split(",") if n.strip()))
            elif rest not in ("", "{}"):
                raise Fault(f"{path}:{number}: names is neither a list nor `number: name` lines")
        elif inside and text.strip().startswith("- "):
            names[len(names)] = text.strip()[2:].strip().strip("'\"")
        elif inside and text[:1] == " " and ":" in text:
            key, value = text.split(":", 1)
            if not key.strip().isdigit():
                raise Fault(f"{path}:{number}: `{key.strip()}` is not a class number")
            names[int(key)] = value.strip().strip("'\"")
        elif text.strip():
            inside = False
    return names


def read_text(path, most):
    """A UTF-8 file of at most `most` bytes."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise Fault(f"{path}: not a regular file")
        if size > most:
            raise Fault(f"{path}: larger than {most >> 20} MiB")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Fault(f"{path}: missing; export the captures with `gridwatch ledger export --labelled`") from None
    except (OSError, UnicodeDecodeError) as e:
        raise Fault(f"{path}: {e}") from None


def labelled_boxes(value, what):
    """[(label, corners)] of a list in provenance.jsonl."""
    out = []
    for item in value:
        corners = np.array([float(v) for v in item["box"]], np.float32)
        if corners.shape != (4,) or not np.isfinite(corners).all():
            raise ValueError(f"`{what}` has a box that is not four numbers")
        out.append((str(item["label"]), corners.clip(0, 1)))
    return out


def read_line(line, root):
    """A line of provenance.jsonl. Errors: KeyError, TypeError, ValueError."""
    entry = json.loads(line)
    verdicts = [accepted for accepted, states in STATES.items() if entry["verdict"] in states]
    if not verdicts:
        raise ValueError(f"verdict {entry['verdict']!r} is neither accepted nor rejected")
    image = Path(entry["image"])
    if image.is_absolute() or ".." in image.parts:
        raise ValueError(f"image {entry['image']!r} lies outside of the folder")
    # jiff may append the zone in brackets (RFC 9557), which Python does not read.
    at = datetime.datetime.fromisoformat(str(entry["captured_at"]).split("[")[0])
    if at.tzinfo is None:
        raise ValueError(f"captured_at {entry['captured_at']!r} has no UTC offset")
    return Capture(
        path=root / image,
        case=str(entry["case_id"]),
        camera=str(entry["camera"]),
        at=at,
        is_accepted=verdicts[0],
        model=str(entry.get("model", "")).split("@")[0],
        judged=labelled_boxes(entry.get("judged", []), "judged"),
        unconfirmed=labelled_boxes(entry.get("unconfirmed", []), "unconfirmed"),
    )


def read_labels(path, names):
    """Boxes and labels of a YOLO file: `class cx cy w h` as fractions, or a polygon, of which the bounding box is taken."""
    boxes, own = [], []
    for number, line in enumerate(read_text(path, MAX_LABELS).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            values = [float(v) for v in words[1:]]
            kind = int(words[0])
        except ValueError:
            raise Fault(f"{path}:{number}: not numbers; expected `class cx cy w h`") from None
        if len(values) < 4 or len(values) % 2 or not np.isfinite(values).all():
            raise Fault(f"{path}:{number}: {len(values)} numbers after the class; expected `class cx cy w h`")
        if kind not in names:
            raise Fault(f"{path}:{number}: unknown label {kind}; data.yaml names {', '.join(map(str, sorted(names))) or 'none'}")
        if len(values) == 4:
            x, y, w, h = values
            box = x - w / 2, y - h / 2, x + w / 2, y + h / 2
        else:
            box = min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])
        box = np.clip(np.float32(box), 0, 1)
        if not (box[2] > box[0] and box[3] > box[1]):
            raise Fault(f"{path}:{number}: the box has no area inside the picture; coordinates are fractions, 0 to 1")
        boxes.append(box), own.append(names[kind])
    return np.array(boxes, np.float32).reshape(-1, 4), own


def decodable(path):
    """Raises Fault unless `path` is a regular file of at most MAX_PICTURE bytes that can be decoded to its end."""
    try:
        if path.stat().st_size > MAX_PICTURE or not path.is_file():
            raise Fault(f"{path}: not a picture file of at most {MAX_PICTURE >> 20} MiB")
        with Image.open(path) as image:
            image.load()
    except FileNotFoundError:
        raise Fault(f"{path}: missing; restore it, or remove its line from provenance.jsonl") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
        raise Fault(f"{path}: damaged picture ({e}); remove it and its line from provenance.jsonl") from None


def read(root, check_pictures=True):
    """All captures of the folder `root`, oldest first. Raises Fault with every fault found."""
    root = Path(root)
    if not root.is_dir():
        raise Fault(f"{root}: not a folder; export captures with `gridwatch ledger export --labelled --out {root}`")
    names = read_names(root / "data.yaml")
    captures, faults, seen = [], [], set()
    for number, line in enumerate(read_text(root / "provenance.jsonl", MAX_TEXT).split("\n"), 1):
        if not line.strip():
            continue
        if len(seen) == MAX_PICTURES:
            raise Fault(f"{root}/provenance.jsonl: more than {MAX_PICTURES} pictures; export a shorter period")
        try:
            capture = read_line(line, root)
            if capture.path in seen:
                raise ValueError(f"{capture.path.name} is listed twice")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
            reason = f"field {e} is missing" if isinstance(e, KeyError) else e
            faults.append(f"{root}/provenance.jsonl:{number}: {reason}")
            continue
        seen.add(capture.path)
        try:
            if check_pictures:
                decodable(capture.path)
            capture.boxes, capture.names = read_labels(root / "labels" / f"{capture.path.stem}.txt", names)
        except Fault as e:
            faults.append(str(e))
            continue
        captures.append(capture)
    for path in sorted((root / "images").glob("*")) if (root / "images").is_dir() else []:
        if path not in seen and not path.name.startswith("."):
            faults.append(f"{path}: no line in provenance.jsonl, so its time is unknown; add one, or move the picture away")
    if faults:
        more = [f"and {len(faults) - MAX_FAULTS} more faults"] if len(faults) > MAX_FAULTS else []
        raise Fault(faults[:MAX_FAULTS] + more)
    if not captures:
        raise Fault(f"{root}: empty; no case of the exported period was accepted or rejected")
    return sorted(captures, key=lambda c: (c.at, c.path.name))


def usable(captures, model, labels, reviewed=False):
    """The captures that say something about `model` (an id) with these `labels`, and a Counter of why the others were left out.

    Raises Fault where a confirmed box has a label that the model does not have."""
    kept, left_out, unknown = [], Counter(), Counter()
    by_case = judged_labels(captures, labels, reviewed)
    for capture in captures:
        if capture.model and capture.model != model:
            left_out[f"detected by another model, {capture.model}"] += 1
            continue
        own = [capture.names[i] for i in capture.confirmed(reviewed)]
        unknown.update(name for name in own if name not in labels)
        if not by_case[capture.case]:
            left_out["the judged box is in no picture of the case"] += 1
        elif capture.is_accepted and not any(name in by_case[capture.case] for name in own):
            left_out["accepted, but the object has no box in this picture"] += 1
        else:
            kept.append(capture)
    if unknown:
        known = ", ".join(labels)
        raise Fault([f"label {name!r} ({count} boxes) is unknown to {model}, which has {known}; rename it in data.yaml, or remove the boxes"
                     for name, count in sorted(unknown.items())])
    if not kept:
        reasons = "; ".join(f"{count}: {reason}" for reason, count in left_out.items())
        raise Fault(f"no capture can be used for {model} ({reasons})")
    return kept, left_out


def judged_labels(captures, labels, reviewed=False):
    """{case: the labels of which its pictures say where they are and where not}."""
    out = {c.case: set() for c in captures}
    every = {name for c in captures for name in c.names} & set(labels)
    for capture in captures:
        own = {label for label, _ in capture.judged} | {capture.names[i] for i in capture.confirmed()}
        out[capture.case] |= every if reviewed else own & set(labels)
    return out


def groups(captures):
    """[N] of numbers 0..: captures of one case, or of one camera and day, share a group, because they show one scene."""
    parent = list(range(len(captures)))

    def root(i):
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first = {}
    for i, capture in enumerate(captures):
        for key in (("case", capture.case), ("day", *capture.day)):
            parent[root(i)] = root(first.setdefault(key, i))
    roots = [root(i) for i in range(len(captures))]
    order = {r: n for n, r in enumerate(dict.fromkeys(roots))}
    return np.array([order[r] for r in roots], int)


@dataclass
class Split:
    """`train` and `held_out`, and what is known of them."""

    train: list
    held_out: list
    weeks: list  # [(year, week)] held out, oldest first
    train_weeks: list
    left_out: Counter

    def counts(self, side):
        """Cases, groups and pictures, accepted and rejected, of one side."""
        captures = getattr(self, side)
        own = groups(captures)
        part = lambda accepted: [i for i, c in enumerate(captures) if c.is_accepted == accepted]
        return {
            name: {
                "cases": len({captures[i].case for i in part(accepted)}),
                "groups": len({int(own[i]) for i in part(accepted)}),
                "pictures": len(part(accepted)),
            }
            for name, accepted in (("accepted", True), ("rejected", False))
        }


def divided(captures, weeks, digest):
    """The newest `weeks` (a set) held out. A case that reaches into them is held out whole, and no training picture shares camera and
    day with a held-out one; nor does a file with the same digest stand on both sides."""
    late = {c.case for c in captures if c.week in weeks}
    held_out = [c for c in captures if c.case in late]
    days = {c.day for c in held_out}
    files = {digest[c.path] for c in held_out}
    train, left_out = [], Counter()
    for c in captures:
        if c.case in late:
            continue
        if c.day in days:
            left_out["same camera and day as a held-out case"] += 1
        elif digest[c.path] in files:
            left_out["identical to a held-out picture"] += 1
        else:
            train.append(c)
    return train, held_out, left_out


def split(captures, weeks=None):
    """Training weeks and the newest weeks, held out: `weeks` of them, or else the fewest with a quarter of the cases and enough groups
    of both kinds, up to half of the weeks. Returns the Split and the messages of what there is too little of (empty: enough)."""
    every = sorted({c.week for c in captures})
    most = max(1, len(every) // 2)
    if weeks is not None and not 1 <= weeks < len(every):
        raise Fault(f"--weeks {weeks}: the captures are of {len(every)} weeks; at least one must remain for training")
    if len(every) < 2:
        raise TooFew("all captures are of one week; the newest weeks are held out, so captures of at least two weeks are needed")
    cases = len({c.case for c in captures})
    digest = {c.path: hashlib.sha256(c.path.read_bytes()).digest() for c in captures}
    for n in [weeks] if weeks else range(1, most + 1):
        train, held_out, left_out = divided(captures, set(every[-n:]), digest)
        out = Split(train, held_out, every[-n:], every[:-n], left_out)
        lacking = too_few(out)
        if len({c.case for c in held_out}) >= HELD_OUT_SHARE * cases and not lacking:
            break
    return out, lacking


def too_few(split):
    """What there is too little of, with how many are needed and in how many weeks they come at the present rate."""
    out = []
    held_out, train = split.counts("held_out"), split.counts("train")
    for kind in ("accepted", "rejected"):
        have = held_out[kind]["groups"]
        if have < MIN_HELD_OUT:
            total = have + train[kind]["groups"]
            weeks = len(split.weeks) + len(split.train_weeks)
            more = MIN_HELD_OUT - have
            rate = f"; at {total / weeks:.1f} a week, {int(np.ceil(more * weeks / total))} more weeks" if total else ""
            out.append(f"held-out weeks: {have} {kind} case-days (cases that share no camera and day), {MIN_HELD_OUT} are needed{rate}")
    cases = train["accepted"]["cases"] + train["rejected"]["cases"]
    if cases < MIN_TRAIN_CASES:
        out.append(f"training weeks: {cases} cases, {MIN_TRAIN_CASES} are needed")
    if train["accepted"]["cases"] < MIN_TRAIN_ACCEPTED:
        out.append(f"training weeks: {train['accepted']['cases']} accepted cases, {MIN_TRAIN_ACCEPTED} are needed")
    return out
