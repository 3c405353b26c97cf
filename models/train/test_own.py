"""Tests of own.py and what it uses, on captures made here: `venv/bin/python -m unittest` in this folder (about a minute)."""

import contextlib
import io
import json
import tempfile
import unittest
from datetime import datetime, timedelta, timezone
from pathlib import Path

import cv2
import numpy as np

import captures
import compare
import data
import held_out
import own
import package
from captures import Fault

MODEL = Path(__file__).parent.parent / "garbage_nano_416"
LABELS = ["garbage", "garbage_bin", "overflow", "sign"]
MONDAY = datetime(2026, 9, 7, 9, tzinfo=timezone(timedelta(hours=8)))
BOX = [0.25, 0.5, 0.5, 0.75]


class Folder:
    """A captures folder in the form of `gridwatch ledger export --labelled`, made case by case."""

    def __init__(self, test):
        scratch = tempfile.TemporaryDirectory()
        test.addCleanup(scratch.cleanup)
        self.root, self.lines = Path(scratch.name) / "captures", []
        for name in ("images", "labels"):
            (self.root / name).mkdir(parents=True)
        (self.root / "data.yaml").write_text('path: .\ntrain: images\nval: images\nnames:\n  0: "garbage"\n  1: "person"\n')

    def add(self, case, days, accepted=True, camera="gate", labels="0 0.375 0.625 0.25 0.25\n", model="garbage_nano_416@1.2.0", seed=None,
            **fields):
        """A picture taken `days` after the first Monday; returns its name."""
        name = f"{camera}-{case}-e{len(self.lines)}"
        rng = np.random.default_rng(len(self.lines) if seed is None else seed)
        image = cv2.resize(rng.integers(90, 160, (9, 16, 3), np.uint8), (160, 90), interpolation=cv2.INTER_CUBIC)
        cv2.rectangle(image, (40, 45), (80, 67), (20, 20, 20) if accepted else (60, 140, 60), -1)
        cv2.imwrite(str(self.root / "images" / f"{name}.jpg"), image)
        (self.root / "labels" / f"{name}.txt").write_text(labels if accepted else "")
        line = {"image": f"images/{name}.jpg", "case_id": case, "verdict": "closed" if accepted else "rejected", "rule": "garbage",
                "camera": camera, "captured_at": (MONDAY + timedelta(days=days)).isoformat(timespec="milliseconds"), "model": model,
                "judged": [{"label": "garbage", "box": BOX}], "unconfirmed": []}
        self.lines.append(line | fields)
        self.write()
        return name

    def write(self):
        (self.root / "provenance.jsonl").write_text("".join(json.dumps(line) + "\n" for line in self.lines))

    def read(self):
        return captures.read(self.root)

    def season(self, weeks=8, a_week=5):
        """As many accepted as rejected cases each week, each on a camera and day of its own."""
        for n in range(weeks * a_week):
            days = n // a_week * 7 + n % a_week
            self.add(f"A{n}", days, True, "north")
            self.add(f"R{n}", days, False, "south")
        return self


class Reading(unittest.TestCase):
    def faults(self, folder):
        with self.assertRaises(Fault) as raised:
            folder.read()
        return str(raised.exception)

    def test_a_good_folder_is_read_in_the_order_of_time(self):
        folder = Folder(self)
        folder.add("B", 3), folder.add("A", 1, False)
        first, second = folder.read()
        self.assertEqual([(c.case, c.is_accepted) for c in (first, second)], [("A", False), ("B", True)])
        np.testing.assert_allclose(second.boxes, [BOX], atol=1e-6)
        self.assertEqual((second.names, second.week, second.model), (["garbage"], (2026, 37), "garbage_nano_416"))

    def test_every_fault_is_reported_with_its_file(self):
        folder = Folder(self)
        gone, cut, strange, bare, flat = (folder.add(f"C{n}", n) for n in range(5))
        folder.add("verdict", 5, verdict="filed")
        folder.add("clock", 6, captured_at="2026-09-07T10:00:00")
        folder.add("outside", 7, image="../secret.jpg")
        path = lambda kind, name, ending: folder.root / kind / f"{name}.{ending}"
        path("images", gone, "jpg").unlink()
        whole = path("images", cut, "jpg").read_bytes()
        path("images", cut, "jpg").write_bytes(whole[: len(whole) // 2])
        path("labels", strange, "txt").write_text("7 0.5 0.5 0.1 0.1\n")
        path("labels", bare, "txt").unlink()
        path("labels", flat, "txt").write_text("0 0.5 0.5 0 0.1\n")
        (folder.root / "images" / "other.jpg").write_bytes(whole)
        text = self.faults(folder)
        for part in (f"{gone}.jpg: missing", f"{cut}.jpg: damaged picture", f"{strange}.txt:1: unknown label 7; data.yaml names 0, 1",
                     f"{bare}.txt: missing", f"{flat}.txt:1: the box has no area", "provenance.jsonl:6: verdict 'filed'",
                     "provenance.jsonl:7: captured_at", "provenance.jsonl:8: image '../secret.jpg' lies outside",
                     "other.jpg: no line in provenance.jsonl"):
            self.assertIn(part, text)

    def test_an_empty_or_missing_folder_is_refused(self):
        folder = Folder(self)
        folder.write()
        self.assertIn("empty; no case", self.faults(folder))
        (folder.root / "provenance.jsonl").write_text("not json\n")
        self.assertIn("provenance.jsonl:1:", self.faults(folder))
        (folder.root / "data.yaml").unlink()
        self.assertIn("data.yaml: missing", self.faults(folder))
        folder.root = folder.root / "nowhere"
        self.assertIn("not a folder", self.faults(folder))

    def test_names_are_read_as_tools_write_them(self):
        path = Folder(self).root / "data.yaml"
        for text, names in (("names: [garbage, 'a bin']\n", {0: "garbage", 1: "a bin"}), ("names:\n- garbage\n- sign\nnc: 2\n", {0: "garbage", 1: "sign"}),
                            ("names: {}\n", {})):
            path.write_text(text)
            self.assertEqual(captures.read_names(path), names)
        path.write_text("names: &a x\n")
        self.assertRaises(Fault, captures.read_names, path)

    def test_what_says_nothing_about_the_model_is_left_out(self):
        folder = Folder(self)
        folder.add("good", 0)
        folder.add("other", 1, model="adverts_nano_416@1.0.0")
        folder.add("missed", 2), folder.add("missed", 2, labels="")
        kept, left_out = captures.usable(folder.read(), "garbage_nano_416", LABELS)
        self.assertEqual([c.case for c in kept], ["good", "missed"])
        self.assertEqual(dict(left_out), {"detected by another model, adverts_nano_416": 1, "accepted, but the object has no box in this picture": 1})

    def test_a_confirmed_label_that_the_model_lacks_is_a_fault_an_unconfirmed_one_is_not(self):
        folder = Folder(self)
        both, person = "0 0.375 0.625 0.25 0.25\n1 0.5 0.5 0.2 0.2\n", [{"label": "person", "box": [0.4, 0.4, 0.6, 0.6]}]
        folder.add("A", 0, labels=both, unconfirmed=person)
        self.assertEqual(len(captures.usable(folder.read(), "garbage_nano_416", LABELS)[0]), 1)
        folder.add("B", 1, labels=both)
        with self.assertRaises(Fault) as raised:
            captures.usable(folder.read(), "garbage_nano_416", LABELS)
        self.assertIn("label 'person' (1 boxes) is unknown to garbage_nano_416", str(raised.exception))


class Splitting(unittest.TestCase):
    def test_the_newest_weeks_are_held_out_and_cases_stay_whole(self):
        folder = Folder(self).season()
        folder.add("long", 41, camera="lane"), folder.add("long", 44, camera="lane")  # from the sixth week into the seventh
        folder.add("beside", 41.1, camera="lane")  # the same camera and day as the first picture of `long`
        split, lacking = captures.split(folder.read())
        self.assertEqual((lacking, len(split.weeks), len(split.train_weeks)), ([], 2, 6))
        self.assertLess(max(split.train_weeks), min(split.weeks))
        train, late = ({c.case for c in side} for side in (split.train, split.held_out))
        self.assertFalse(train & late)
        self.assertFalse({c.day for c in split.train} & {c.day for c in split.held_out})
        self.assertIn("long", late)
        self.assertNotIn("beside", train | late)
        self.assertEqual(split.left_out["same camera and day as a held-out case"], 1)
        self.assertEqual(split.counts("held_out")["rejected"], {"cases": 10, "groups": 10, "pictures": 10})

    def test_a_picture_that_was_filed_twice_is_not_on_both_sides(self):
        folder = Folder(self).season()
        folder.add("first", 2, camera="lane", seed=500), folder.add("again", 51, camera="lane", seed=500)
        split, _ = captures.split(folder.read())
        self.assertEqual(split.left_out["identical to a held-out picture"], 1)
        self.assertNotIn("first", {c.case for c in split.train})

    def test_too_few_captures_say_how_many_are_needed(self):
        folder = Folder(self).season(weeks=4, a_week=2)
        split, lacking = captures.split(folder.read())
        self.assertIn("held-out weeks: 4 accepted case-days (cases that share no camera and day), 8 are needed; at 2.0 a week, 2 more weeks", lacking)
        self.assertIn("training weeks: 8 cases, 20 are needed", lacking)
        one = Folder(self).season(weeks=1)
        self.assertRaises(captures.TooFew, captures.split, one.read())
        self.assertRaises(Fault, captures.split, folder.read(), 4)

    def test_pictures_of_a_case_or_of_a_camera_and_day_are_one_group(self):
        folder = Folder(self)
        folder.add("A", 0, camera="a"), folder.add("A", 1, camera="a"), folder.add("B", 1.1, camera="a"), folder.add("C", 1, camera="b")
        read = folder.read()
        by_case = dict(zip([c.case for c in read], captures.groups(read)))
        self.assertEqual(by_case["A"], by_case["B"])
        self.assertNotEqual(by_case["A"], by_case["C"])
        self.assertEqual(len(set(captures.groups(read))), 2)


def scores(right, wrong):
    """LabelScores of accepted pictures with these scores, then of rejected ones with those."""
    right, wrong = np.array(right, float), np.array(wrong, float)
    n, m = len(right), len(wrong)
    rows = sorted([(s, True, i) for i, s in enumerate(right) if s > 0] + [(s, False, n + i) for i, s in enumerate(wrong) if s > 0], reverse=True)
    matched = (np.array([r[1] for r in rows], bool), np.array([r[2] for r in rows], int), np.array([1.0] * n + [0.0] * m))
    has = np.arange(n + m) < n
    return held_out.LabelScores(has, ~has, np.append(right, np.zeros(m)), np.append(np.zeros(n), wrong), np.zeros(n + m), matched)


def judged(old, new, groups=None, draws=600):
    groups = np.arange(len(old.has)) if groups is None else groups
    rows = held_out.rows(*held_out.figures(old, new, "garbage", 0.5), groups, draws)
    return held_out.verdict(rows, groups)[0], {r["figure"]: r for r in rows}


class Judging(unittest.TestCase):
    def test_a_model_that_rejects_what_clerks_rejected_is_better(self):
        rng = np.random.default_rng(1)
        right, wrong = rng.uniform(0.55, 0.9, 30), rng.uniform(0.55, 0.9, 30)
        verdict, rows = judged(scores(right, wrong), scores(right - 0.02, wrong - 0.4))
        self.assertEqual(verdict, "better")
        self.assertEqual(rows["false where as much is found"]["old"], 1.0)
        self.assertLess(rows["false where as much is found"]["new"], 0.1)

    def test_lower_scores_alone_are_not_better(self):
        rng = np.random.default_rng(2)
        right, wrong = rng.uniform(0.51, 0.6, 30), rng.uniform(0.51, 0.6, 30)
        verdict, rows = judged(scores(right, wrong), scores(right - 0.05, wrong - 0.05))
        self.assertLess(rows["false at 0.5"]["new"], 0.8, "the figure at the fixed score falls")
        self.assertNotEqual(verdict, "better")

    def test_a_difference_within_noise_is_not_called_better(self):
        rng = np.random.default_rng(3)
        right, wrong = rng.uniform(0.55, 0.9, 20), rng.uniform(0.55, 0.9, 20)
        fewer = wrong.copy()
        fewer[:3] -= 0.5
        verdict, rows = judged(scores(right, wrong), scores(right, fewer))
        self.assertLess(rows["false where as much is found"]["difference"], 0)
        self.assertEqual(rows["false where as much is found"]["said"], "within noise")
        self.assertEqual(verdict, "cannot tell")

    def test_chance_is_seldom_called_better(self):
        rng, called = np.random.default_rng(4), 0
        for _ in range(60):  # two models that differ by noise alone; the captures were selected by the old one's scores
            true = rng.uniform(0.3, 0.9, 300)
            old = true + rng.normal(0, 0.1, 300)
            own, kind = np.flatnonzero(old >= 0.5)[:40], rng.random(40) < 0.5
            again = true[own] + rng.normal(0, 0.1, 40)
            called += judged(scores(old[own][kind], old[own][~kind]), scores(again[kind], again[~kind]), draws=300)[0] == "better"
        self.assertLessEqual(called, 3)

    def test_pictures_of_one_case_do_not_count_as_many(self):
        rng = np.random.default_rng(5)
        right, wrong = rng.uniform(0.6, 0.9, 40), rng.uniform(0.6, 0.9, 40)
        fewer = wrong.copy()
        fewer[:10] -= 0.5  # two rejected cases of five pictures
        old, new = scores(right, wrong), scores(right, fewer)
        self.assertEqual(judged(old, new)[1]["false where as much is found"]["said"], "better", "by picture it would be called better")
        self.assertEqual(judged(old, new, np.arange(80) // 5)[1]["false where as much is found"]["said"], "within noise")

    def test_a_loss_is_named_whatever_else_is_better(self):
        rng = np.random.default_rng(6)
        right, wrong = rng.uniform(0.55, 0.9, 30), rng.uniform(0.55, 0.9, 30)
        verdict, rows = judged(scores(right, wrong), scores(right - 0.3, wrong - 0.5))
        self.assertEqual((verdict, rows["found at 0.5"]["said"]), ("not better", "worse"))

    def test_forgotten_labels_are_a_loss(self):
        self.assertEqual(held_out.verdict([], np.arange(3), (10, 40))[0], "not better")

    def test_only_detections_at_judged_objects_count_unless_reviewed(self):
        image = np.zeros((100, 200, 3), np.uint8)
        box, away = [20.0, 20, 60, 60], [120.0, 20, 160, 60]
        picture = data.Picture("a", lambda: image, np.float32([box]), np.array([0]), None)
        empty = data.Picture("b", lambda: image, np.zeros((0, 4), np.float32), np.zeros(0, int), None)
        scenes = [held_out.Scene(picture, [], {0}), held_out.Scene(empty, [(0, np.float32(box))], {0})]
        found = [np.array([[*box, 0.8, 0], [*away, 0.7, 0]]), np.array([[*box, 0.6, 0], [*away, 0.9, 0]])]
        own = held_out.label_scores(scenes, found, 0, False)
        self.assertEqual((own.right.tolist(), own.wrong.tolist(), own.elsewhere.tolist()), ([0.8, 0.0], [0.0, 0.6], [0.7, 0.9]))
        self.assertEqual(held_out.label_scores(scenes, found, 0, True).wrong.tolist(), [0.0, 0.9])

    def test_intervals_draw_whole_groups(self):
        figure = {("x", "mean"): (lambda w: float((w * [0, 0, 1, 1]).sum() / w.sum()), 4, 1)}
        nothing = {("x", "mean"): (lambda w: 0.0, 4, 1)}
        (_, _, after, ((low, high),)), = compare.intervals(nothing, figure, 400, [0, 0, 1, 1])
        self.assertEqual((after, low, high), (0.5, 0.0, 1.0))


class Seen:
    """An old model that detects what it is told."""

    def __init__(self, rows):
        self.rows = np.array(rows, float)

    def look(self, image):
        return self.rows


class Learning(unittest.TestCase):
    def picture(self, accepted, rows, reviewed=False, **fields):
        folder = Folder(self)
        folder.add("A", 0, accepted, **fields)
        capture, = folder.read()
        return own.training_picture(capture, {"garbage"}, LABELS, Seen(rows), reviewed, 0.5, False)

    def test_what_nobody_judged_is_neither_learnt_nor_punished(self):
        at, away = [40, 45, 80, 67.5], [100, 10, 140, 40]
        rows = [[*at, 0.9, 0], [*away, 0.4, 0], [90, 50, 120, 80, 0.1, 0], [*away, 0.7, 3], [0, 0, 20, 20, 0.3, 3]]
        picture = self.picture(True, rows)
        self.assertEqual(picture.labels.tolist(), [0, data.UNJUDGED, 3], "the object; a doubtful one; a sign as the old model sees it")
        self.assertEqual(picture.source.mask, (1.0, 0.0, 0.0, 0.0))
        self.assertEqual(self.picture(True, rows, reviewed=True).labels.tolist(), [0, 3])

    def test_a_rejected_box_is_a_hard_negative(self):
        picture = self.picture(False, [[40, 45, 80, 67.5, 0.9, 0]])
        self.assertEqual(picture.labels.tolist(), [])
        self.assertEqual(picture.source.mask[0], 1.0)

    def test_unconfirmed_boxes_are_doubtful_until_reviewed(self):
        fields = {"labels": "0 0.375 0.625 0.25 0.25\n0 0.75 0.25 0.2 0.2\n", "unconfirmed": [{"label": "garbage", "box": [0.65, 0.15, 0.85, 0.35]}]}
        self.assertEqual(self.picture(True, np.zeros((0, 6)), **fields).labels.tolist(), [0, data.UNJUDGED])
        self.assertEqual(self.picture(True, np.zeros((0, 6)), reviewed=True, **fields).labels.tolist(), [0, 0])

    def test_shares_fill_a_batch(self):
        public = [[data.Picture("", None, None, None, data.Source("x", share, {}, (), 0, "hard", 1))] for share in (5, 3, 3, 4, 1)]
        for parts in ([[0] * 50, [0] * 3], [[0] * 3, [0] * 50], [[0] * 9]):
            for others in (public, []):
                shares = own.shares(parts, others)
                self.assertEqual((sum(shares), min(shares) > 0, len(shares)), (own.BATCH, True, len(parts) + len(others)))


class Packaging(unittest.TestCase):
    def test_versions_are_raised_and_marked(self):
        for before, after in (("1.2.0", "1.2.1+own"), ("1.2.1+own", "1.2.2+own"), ("spring", "spring+own1"), ("spring+own1", "spring+own2")):
            self.assertEqual(package.raised(before), after)

    def test_the_manifest_keeps_all_but_version_checksum_source_and_self_tests(self):
        manifest = package.Manifest(MODEL)
        test = '[[self_test]]\npicture = "selftest/bags.jpg"\nabove = 0.3\nexpect = [\n    { label = "sign", score = 0.5, box = [0.1, 0.1, 0.2, 0.2] },\n]\n'
        text = package.manifest_text(manifest, "9.9.9", "ab" * 32, [test])
        table = package.tomllib.loads(text)
        self.assertEqual((table["version"], table["sha256"], len(table["self_test"])), ("9.9.9", "ab" * 32, 1))
        self.assertEqual((table["input"], table["labels"]), (manifest.input, manifest.labels))
        self.assertTrue(text.startswith("# Manifest."))

    def test_the_shipped_self_tests_are_reproduced(self):
        deployed = package.Deployed(package.Manifest(MODEL))
        for test in deployed.manifest.table["self_test"]:
            found = deployed.detections(cv2.imread(str(MODEL / test["picture"])))
            for expected in test["expect"]:
                near = min(found, key=lambda d: (d[0] != expected["label"], np.abs(np.subtract(d[2], expected["box"])).max()))
                self.assertEqual(near[0], expected["label"])
                self.assertAlmostEqual(near[1], expected["score"], delta=0.02)

    def test_inputs_take_the_shape_of_the_picture(self):
        self.assertEqual([package.fitted(*size, 416, 416) for size in ((1920, 1080), (1080, 1920), (640, 480), (500, 500))],
                         [(544, 320), (320, 544), (480, 352), (416, 416)])

    def test_a_model_of_another_make_is_refused(self):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "mine"
            with self.assertRaisesRegex(Fault, "not a folder"):
                package.Manifest(folder)
            folder.mkdir()
            text = (MODEL / "model.toml").read_text()
            for change, reason in ((("adapter = \"yolox\"", "adapter = \"nanodet\""), "only YOLOX-nano of this recipe"), (("", ""), "model.onnx: missing"),
                                   (("labels =", "names ="), "field 'labels' is missing"), (("id = \"garbage", "id = \"../garbage"), "not usable as a name")):
                (folder / "model.toml").write_text(text.replace(*change))
                with self.assertRaisesRegex(Fault, reason):
                    package.Manifest(folder)
            (folder / "model.toml").write_text(text)
            (folder / "model.onnx").write_bytes(b"x")
            with self.assertRaisesRegex(Fault, "its checksum is"):
                package.Manifest(folder)


class Command(unittest.TestCase):
    def run_own(self, folder, out, *more):
        output, faults = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(faults):
            status = own.main(["--captures", str(folder.root), "--model", str(MODEL), "--out", str(out), "--workers", "0", *more])
        return status, output.getvalue() + faults.getvalue()

    def test_what_can_be_learnt_makes_a_better_model(self):
        folder = Folder(self).season(weeks=6)  # accepted: a dark box; rejected: a green one; the shipped model sees neither
        out = folder.root.parent / "run"
        status, text = self.run_own(folder, out, "--steps", "10", "--lr", "4e-4")
        self.assertEqual(status, 0, text)
        report = json.loads((out / "report.json").read_text())
        self.assertEqual((report["verdict"], report["new_version"]), ("better", package.Manifest(out / "garbage_nano_416").version))

    def test_a_run_that_learns_nothing_is_not_better_and_resumes(self):
        folder = Folder(self).season(weeks=6)
        out = folder.root.parent / "run"
        nothing = "--lr", "1e-9", "--keep"
        status, text = self.run_own(folder, out, "--steps", "2", *nothing)
        self.assertIn(status, (1, 4), text)
        report = json.loads((out / "report.json").read_text())
        self.assertNotEqual(report["verdict"], "better")
        self.assertEqual(report["split"]["held_out"]["weeks"], ["2026-W41", "2026-W42"])
        self.assertEqual(report["left_out"], {})
        table = package.Manifest(out / "garbage_nano_416").table
        self.assertEqual(table["version"], package.raised(package.Manifest(MODEL).version))
        card = (out / "garbage_nano_416" / "CARD.md").read_text()
        for part in ("2026-W41 to 2026-W42", "false where as much is found", "## What it cannot do"):
            self.assertIn(part, card)
        again, text = self.run_own(folder, out, "--steps", "2", *nothing)
        self.assertEqual(again, status)
        self.assertIn("goes on from step 2", text)
        self.assertEqual(json.loads((out / "report.json").read_text())["figures"], report["figures"])
        status, text = self.run_own(folder, out, "--steps", "3", *nothing)
        self.assertEqual(status, 3)
        self.assertIn("holds a run with other steps; name another --out", text)

    def test_no_folder_is_written_unless_the_model_is_better(self):
        folder = Folder(self).season(weeks=6)
        out = folder.root.parent / "run"
        status, text = self.run_own(folder, out, "--steps", "1", "--lr", "1e-9")
        self.assertIn(status, (1, 4), text)
        self.assertTrue((out / "report.md").exists())
        self.assertFalse((out / "garbage_nano_416").exists())

    def test_too_few_captures_train_nothing(self):
        folder = Folder(self).season(weeks=3, a_week=2)
        out = folder.root.parent / "run"
        status, text = self.run_own(folder, out)
        self.assertEqual(status, 4)
        self.assertIn("8 are needed", text)
        self.assertEqual(json.loads((out / "report.json").read_text())["verdict"], "cannot tell")
        self.assertFalse((out / "last.pt").exists())

    def test_faults_end_with_status_3(self):
        folder = Folder(self).season(weeks=6)
        status, text = self.run_own(folder, MODEL.parent)
        self.assertEqual(status, 3)
        self.assertIn("the new model would overwrite", text)
        (folder.root.parent / "file").write_text("")
        self.assertEqual(self.run_own(folder, folder.root.parent / "file")[0], 3)
        self.assertEqual(self.run_own(folder, folder.root.parent / "run", "--at", "7")[0], 3)
        status, text = self.run_own(folder, folder.root.parent / "run", "--data", str(folder.root), "--steps", "1")
        self.assertEqual(status, 3)
        self.assertIn("no folder garbage, garbage_uy", text)


if __name__ == "__main__":
    unittest.main()
