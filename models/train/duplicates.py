"""Finds training pictures that show a scene of a dev picture: `python duplicates.py --data DATA --model COCO.onnx`.

The embedding is the deepest backbone feature of a COCO YOLOX (any ONNX file whose convolutions are YOLOX-nano's), its
mean over the picture and over its four quarters, centred and scaled by the spread over all pictures. Two pictures whose
cosine reaches `--threshold`, mirrored or not, are one scene. Writes duplicates.json: training pictures to leave out,
and the dev pictures that had one (figures are also given without these).
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import torch

import data as pictures
from net import from_onnx

HERE = Path(__file__).parent


@torch.no_grad()
def embed(net, images):
    batch = np.stack([cv2.resize(image, (256, 256), interpolation=cv2.INTER_AREA) for image in images])
    x = torch.from_numpy(batch.transpose(0, 3, 1, 2).astype(np.float32))
    feature = net.dark5(net.dark4(net.dark3(net.dark2(net.stem(x)))))
    pooled = [feature.mean((2, 3), keepdim=True), torch.nn.functional.adaptive_avg_pool2d(feature, 2)]
    return torch.cat([p.flatten(1) for p in pooled], 1).numpy()


def unit(features, mean, spread):
    z = (features - mean) / spread
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--data", required=True)
    args.add_argument("--model", required=True, help="ONNX file of YOLOX-nano trained on COCO")
    args.add_argument("--threshold", type=float, default=0.58)
    args.add_argument("--out", default=HERE / "duplicates.json")
    args.add_argument("--pairs", help="write the closest pairs with their cosine here, to look at")
    args = args.parse_args()
    _, sources, _ = pictures.read_sources()
    net = from_onnx(args.model, 80)
    left_out, dev_twins, pairs = [], [], []
    for source in sources:
        found = {}
        for split in ("train", "dev"):
            files = pictures.picture_files(args.data, source.folder, split)
            straight, mirrored = [], []
            for i in range(0, len(files), 16):
                images = [cv2.imread(str(f)) for f in files[i : i + 16]]
                straight.append(embed(net, images))
                if split == "dev":
                    mirrored.append(embed(net, [np.ascontiguousarray(m[:, ::-1]) for m in images]))
            found[split] = files, np.concatenate(straight), np.concatenate(mirrored) if mirrored else None
        (train, a, _), (dev, b, c) = found["train"], found["dev"]
        mean, spread = a.mean(0), a.std(0) + 1e-6
        a, b, c = (unit(v, mean, spread) for v in (a, b, c))
        cosine = np.maximum(a @ b.T, a @ c.T)
        name = lambda f: f"{source.folder}/{f.name}"
        left_out += [name(f) for f, row in zip(train, cosine) if row.max() >= args.threshold]
        dev_twins += [name(f) for f, column in zip(dev, cosine.T) if column.max() >= args.threshold]
        for j in range(len(dev)):
            i = int(cosine[:, j].argmax())
            pairs.append((float(cosine[i, j]), name(train[i]), name(dev[j])))
        print(f"{source.folder}: {sum(n.startswith(source.folder + '/') for n in left_out)} of {len(train)} training pictures "
              f"are near {sum(n.startswith(source.folder + '/') for n in dev_twins)} of {len(dev)} dev pictures", flush=True)
    Path(args.out).write_text(json.dumps({"threshold": args.threshold, "train": left_out, "dev": dev_twins}, indent=1) + "\n")
    if args.pairs:
        Path(args.pairs).write_text("".join(f"{s:.3f} {t} {d}\n" for s, t, d in sorted(pairs, reverse=True)))


if __name__ == "__main__":
    main()
