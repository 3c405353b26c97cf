"""Writes what own.py found: report.md for people, report.json for programs, and the card of the new model."""

import datetime
import json
from dataclasses import dataclass, field
from pathlib import Path

MEANING = {
    "better": "The new model is better on the held-out weeks.",
    "not better": "The new model is not better on the held-out weeks. Keep the installed one.",
    "cannot tell": "There are too few captures to tell. Keep the installed model and collect more.",
}


@dataclass
class Result:
    """What is reported. `rows` as held_out.rows, `public` as compare.compared, `scores`: label -> score of equal finds."""

    manifest: object
    split: object
    args: object
    verdict: str
    reasons: list
    rows: list = field(default_factory=list)
    others: tuple = (0, 0)
    scores: dict = field(default_factory=dict)
    public: list = field(default_factory=list)
    seconds: dict = field(default_factory=dict)
    version: str = ""
    folder: Path = None
    self_tests: int = 0


def week(pair):
    return f"{pair[0]}-W{pair[1]:02}"


def side_text(split, side):
    counts = split.counts(side)
    parts = [f"{n['cases']} {kind} cases ({n['pictures']} pictures)" for kind, n in counts.items()]
    return " and ".join(parts)


def split_lines(split):
    """The split in a few lines."""
    span = lambda weeks: week(weeks[0]) if len(weeks) == 1 else f"{week(weeks[0])} to {week(weeks[-1])}"
    out = [f"Training: {span(split.train_weeks)}, {side_text(split, 'train')}.",
           f"Held out: {span(split.weeks)}, {side_text(split, 'held_out')}."]
    return out + [f"Left out: {count} ({reason})." for reason, count in sorted(split.left_out.items())]


def split_table(split):
    out = ["| | Weeks | Accepted: cases, case-days, pictures | Rejected: cases, case-days, pictures |", "|---|---|---|---|"]
    for name, side, weeks in (("Training", "train", split.train_weeks), ("Held out", "held_out", split.weeks)):
        counts = split.counts(side)
        cells = [", ".join(str(counts[kind][key]) for key in ("cases", "groups", "pictures")) for kind in ("accepted", "rejected")]
        out.append(f"| {name} | {week(weeks[0])} to {week(weeks[-1])} | {' | '.join(cells)} |")
    return out


def figure_table(rows):
    out = ["| Label | Figure | Old | New | Difference | Interval | |", "|---|---|---|---|---|---|---|"]
    for r in rows:
        out.append(f"| {r['label']} | {r['figure']} | {r['old']:.3f} | {r['new']:.3f} | {r['difference']:+.3f} | {r['low']:+.3f} to "
                   f"{r['high']:+.3f} | {r['said']} |")
    return out


def basis(result):
    """On which labels the figures rest."""
    if result.args.reviewed:
        return "The labels were reviewed by a person: what has no box counts as not there."
    return ("The labels are the installed model's own detections, accepted or rejected by a clerk. Only detections at judged objects count. What "
            "the installed model missed is in no capture, so these figures show precision, and nothing of what neither model finds.")


def markdown(result):
    manifest, args = result.manifest, result.args
    out = [f"# {manifest.id} {manifest.version}, fine-tuned on own captures", "", f"**{result.verdict}.** {MEANING[result.verdict]}", ""]
    out += [f"- {reason}" for reason in result.reasons]
    out += ["", "## Split", "", "By time: the newest weeks were not trained on. A case is on one side, and so is what a camera took on one day.", ""]
    out += split_table(result.split)
    out += ["", *[f"Left out: {count} ({reason})." for reason, count in sorted(result.split.left_out.items())]]
    if result.rows:
        out += ["", "## Figures on the held-out weeks", "", basis(result), ""]
        out += figure_table(result.rows)
        out += ["", "Intervals: paired bootstrap over case-days (cases that share no camera and day). What may show an improvement, AP50 and "
                "*false where as much is found*, is judged at a level corrected for the number of such figures; a loss at 95 %. An interval that "
                "contains 0 is within noise. *Elsewhere*: detections at objects that nobody judged."]
        for label, score in result.scores.items():
            out.append(f"\nThe new model finds as much `{label}` at a score of {score:.2f} as the old one at {args.at}: a `start_score` to begin with.")
        if result.others[1]:
            out.append(f"\nOf {result.others[1]} detections of labels that nobody judged, the new model makes {result.others[0]}, too.")
    if result.public:
        out += ["", "## Public dev pictures", "", "Whether something was forgotten; not part of the verdict.", "",
                "| Set | Figure | Old | New | Interval of the difference | |", "|---|---|---|---|---|---|"]
        out += [f"| {f} | {name} | {old:.3f} | {new:.3f} | {low:+.3f} to {high:+.3f} | {said} |" for f, name, old, new, _, low, high, said in result.public]
    if result.rows:
        out += ["", "## Training", "", *training_lines(result)]
    if result.folder:
        out += ["", "## Model folder", "", f"`{result.folder}`, version {result.version}, {result.self_tests} self-tests recorded anew. Next:", "",
                f"    gridwatch model check {result.folder}", f"    gridwatch model install {result.folder}",
                f"    gridwatch model use {manifest.id}@{result.version}"]
    return "\n".join(out).rstrip() + "\n"


def training_lines(result):
    args = result.args
    rehearsed = "public data" if args.data else "the installed model's own detections of labels that nobody judged"
    lines = [f"{args.steps} steps of 16 pictures, learning rate {args.lr:g}, seed {args.seed}; frozen: {', '.join(args.freeze) or 'nothing'}; "
             f"rehearsed: {rehearsed}."]
    if result.seconds:
        lines.append(f"Training took {result.seconds['training']} s, measuring {result.seconds['measuring']} s.")
    return lines


def as_json(result):
    split = result.split
    return {
        "verdict": result.verdict,
        "reasons": result.reasons,
        "model": {"id": result.manifest.id, "version": result.manifest.version, "sha256": result.manifest.sha256},
        "new_version": result.version or None,
        "folder": str(result.folder) if result.folder else None,
        "split": {side: {"weeks": [week(w) for w in weeks], **split.counts(side)}
                  for side, weeks in (("train", split.train_weeks), ("held_out", split.weeks))},
        "left_out": dict(split.left_out),
        "figures": [{k: v for k, v in r.items() if k != "sign"} for r in result.rows],
        "other_labels_kept": list(result.others),
        "score_of_equal_finds": result.scores,
        "public": [dict(zip(("set", "figure", "old", "new", "difference", "low", "high", "said"), r)) for r in result.public],
        "steps": result.args.steps,
        "seconds": result.seconds,
    }


def write(out, result):
    (Path(out) / "report.json").write_text(json.dumps(as_json(result), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (Path(out) / "report.md").write_text(markdown(result), encoding="utf-8")


def card(result):
    """CARD.md of the new model, and below it the card of the model that it started from."""
    manifest = result.manifest
    own = manifest.folder / "CARD.md"
    before = own.read_text(encoding="utf-8") if own.exists() else "No card.\n"
    today = datetime.date.today().isoformat()
    out = [f"# {manifest.id} {result.version}", "",
           f"{manifest.id} {manifest.version} (sha256 {manifest.sha256}), fine-tuned on captures of the operator's own cameras on {today} with "
           f"`models/train/own.py`. Verdict on held-out weeks: **{result.verdict}**.", "", *[f"- {r}" for r in result.reasons], "",
           "## Data", "", "Masked pictures of cases that the platform accepted or rejected, split by time:", "", *split_table(result.split), "",
           "## Figures", "", basis(result), "", *figure_table(result.rows), "",
           "Intervals: paired bootstrap over case-days. " + " ".join(training_lines(result)), "",
           "## What it cannot do", "",
           "- It was measured on the cameras that the captures come from. Measure it again before other cameras use it.",
           "- What the model before it missed was in no capture; expect it to be missed still.",
           "- Scores differ from those of the model before it: choose `start_score` again (`gridwatch tune`).", "",
           "## Licence", "", "As the model below; the captures belong to the operator.", "",
           f"## The card of {manifest.version}", "", *("#" + line if line.startswith("#") else line for line in before.splitlines())]
    return "\n".join(out).rstrip() + "\n"
